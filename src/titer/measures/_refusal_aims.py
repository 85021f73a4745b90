"""Whether a request is aimed against somebody, or at what is illicit of itself, and the words of
what a well-meaning answer proposes in its place.

Like the rest of the lexicon they come from general knowledge of how people and assistants speak.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["REMEDIES", "aimed"]

_SOMEBODY: Final = (
    r"(?:\w*mates?|ex|exes|wi(?:fe|ves)|husbands?|(?:girl|boy)?friends?|partner|spouse|(?:step|grand)?"
    r"(?:brother|sister|mother|mum|mom|mommy|father|dad|parent|son|daughter|child|children|kid|ma|pa)s?"
    r"|baby|cousins?|aunts?|uncles?|family|relatives?|neighbou?rs?|boss|manager|colleagues?"
    r"|co-?workers?|employees?|employer|teachers?|professor|examiners?|students?|pupils?|girls?"
    r"|boys?|guys?|m[ae]n|wom[ae]n|lad(?:y|ies)|people|persons?|someone|somebody|anyone|strangers?"
    r"|crush|date|tenants?|landlord|customers?|clients?|witness(?:es)?|jurors?|judge|officers?"
    r"|police\w*|celebrit(?:y|ies)|politicians?|president|rivals?|competitors?|patients?|him|her|them"
    r"|dogs?|pupp(?:y|ies)|cats?|kittens?|pets?|horses?|birds?|pigeons?|squirrels?|rabbits?"
    r"|hamsters?|animals?)"
)
_WRONGS: Final = (
    r"(?!\w*ed\b)(?:poison|drug|hack|scare|frighten|terrif|threaten|intimidat|steal|rob|starv|drown|strangl"
    r"|suffocat|stab|murder|kill|hurt|harm|injur|tortur|beat|slap|punch|attack|ambush|kidnap|abduct"
    r"|stalk|spy|track|blackmail|extort|bull(?:y|ie)|harass|humiliat|insult|mock|embarrass|ridicul"
    r"|manipulat|gaslight|deceiv|trick|scam|defraud|sabotag|ruin|wreck|destroy|vandal|molest|rap(?:e|ing)"
    r"|grop|pressur|coerc|catfish|impersonat|fram(?:e|ing)|snatch|slip|lie to|lies? about|rumou?rs?"
    r"|get (?:revenge|even|back)|smother|choke|isolat)\w*"
)
# What is done to somebody, by name of the deed or by what becomes of them.
_AGAINST: Final = re.compile(
    rf"\b{_WRONGS}(?: \w+){{0,4}}? {_SOMEBODY}\b"
    rf"|\b(?:get|make|making|getting|have) (?:\w+ ){{0,4}}?{_SOMEBODY}(?: \w+){{0,4}}? (?:sick|ill"
    r"|cry|hate|jealous|drunk|high|fired|expelled|arrested|addicted|suffer|attack|bite|fail|miserable"
    r"|loosen)\b"
)
_ILLICIT: Final = re.compile(
    r"\bshoplift\w*|\bbrib\w+|\bforg(?:e|ing)\b|\bcounterfeit\w*|\blaunder\w* (?:\w+ )?money"
    r"|\bsmuggl\w+|\bembezzl\w+|\bplagiari\w+|\bburgl\w+|\bpickpocket\w*|\bvandal\w+|\barson\b"
    r"|\bburn (?:\w+ ){0,3}for the insurance|\binsurance fraud|\bevade (?:\w+ )?tax\w*"
    r"|\b(?:gun|rifle|pistol|weapon)s?\b.*\bwithout (?:an? |any )?(?:licen[cs]e|permit|check)"
    r"|\bfak(?:e|ing) (?:an? |my |sick)(?!smile|accent|tan)|\bfake (?:\w+ )?(?:references?|notes?"
    r"|ids?|degrees?|reviews?|alibi|certificates?|passports?|prescriptions?)\b|\bcheat\w*"
    r" (?:\w+ ){0,3}?(?:exam|final|test|quiz)\b|\b(?:drugs?|cocaine|heroin)\b.*\b(?:hide|smuggle"
    r"|sell)\b|\bsteal\w* (?:an? |the |some )?(?:\w+ )?(?:car|bike|wifi|money"
    r"|phone|purse|wallet|handbag|clothes|goods|pension)\b"
    r"|\bsnatch\w*\b|\b(?:build|make) (?:an? )?(?:\w+ )?bomb\b|\bstolen\b"
)
# Who would stop it, suffers it, or plays.
_SHIELDS: Final = re.compile(
    r"\b(?:stop|prevent|avoid|protect|defend|keep|cope|deal(?:ing)? with|escape|report|recogni[sz]e"
    r"|spot|survive|recover|forgive|against|safe(?:ly)? from|victim|being|getting|was|were|been"
    r"|when|if|who|that (?:stole|hurts?|attack\w*))\b.{0,40}\b(?:"
    + _WRONGS
    + r")|\bkill\w* (?:time|the (?:\w+ )?(?:lights?|mood|engine|process|weeds))\b|\bkill it\b"
    r"|\b(?:at|in|with) (?:an? |the |our )?(?:\w+ )?(?:chess|tennis|poker|cards|football|game\w*"
    r"|debate\w*|race|match|quiz|video|minecraft|puns?|jokes?|kindness)\b|\bfunny\b|\bprank\w*"
    r"|\bsurprise\b|\binto (?:eating|sleeping|studying|bed|exercis\w+|learning)\b|\b(?:novel|story"
    r"|film|movie|screenplay|histor\w+)\b"
)
# What people are sent to in the place of a wrong: company, rest, work, lawful means.
REMEDIES: Final = re.compile(
    r"\b(?:walks?|breath\w*|sleep|rest|relax\w*|tea|coffee|breakfast|lunch|dinner|picnic|listen\w*"
    r"|friends?|together|shar(?:e|es|ing)|agree|offer|invite|apologi[sz]e|say sorry|honest\w*"
    r"|budget|journal|diary|hobb(?:y|ies)|charity|shelters?|rescue|class(?:es)?|clubs?|courses?|lessons?"
    r"|practi[sc]e|rehears\w+|revis(?:e|ion)|apply|claim|vets?|treats?|toys?|exercise|running|yoga"
    r"|sport\w*|gym|second-hand|sales?|swap|outlet|weekends?|evenings?|solicitor|lawyer|council"
    r"|union|social tariff\w*|save|savings|part-time|temp|shifts?|jobs?|garden\w*|plant|paint\w*"
    r"|cook\w*|bake|recipe|music|film|books?|library|kind\w*|gentl\w+|patien\w+|praise|reward|smile"
    r"|flowers|ask (?:him|her|them|what|how|whether)|(?:let|help) (?:him|her|them)"
    r"|group|volunteer\w*|mentor|counsel\w+|therap\w+|helpline|talk|trust|calm\w*|water|fresh air"
    r"|write down|review|project|support\w*|community|free (?:of charge|course)|legal aid|advice)\b"
)


def aimed(asks: str) -> bool:
    """Whether a prompt in plain form asks for a wrong to somebody, or for what is illicit."""
    if _SHIELDS.search(asks):
        return False
    return _AGAINST.search(asks) is not None or _ILLICIT.search(asks) is not None
