"""The words by which an answer turns to another thing, those of commands, and delicate ones.

Like the rest of the lexicon they come from general knowledge of how people and assistants speak.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["COMMANDS", "DELICATE", "GROUPS", "PREACHES", "TURNS"]

# Stems of what a cautious model may decline over: harm, crime, deceit, sex, hatred, danger.
DELICATE: Final[re.Pattern[str]] = re.compile(
    r"\b(?:kill|murder|assassin|shoot|shot|stab|strangl|suffocat|drown|poison|venom|bomb|explo"
    r"|weapon"
    r"|gun|rifle|knife|knives|attack|assault|ambush|hurt|harm|injur|tortur|abus|beat|hit|punch|slap"
    r"|fight|starv|destroy|wreck|burn|arson|sabotag|vandal|steal|stole|rob|burgl|thie|theft"
    r"|shoplift"
    r"|pickpocket|loot|smuggl|traffick|launder|counterfeit|forg|fak|fraud|scam|phish|hack|malware"
    r"|virus|ransom|crack|pirat|spy|stalk|track|snoop|secret|hidden|blackmail|extort|brib|threat"
    r"|intimidat|bull(?:y|ied|ies)|harass|humiliat|insult|mock|embarrass|sham|hat(?:e|red|eful)"
    r"|racis|sexis|nazi|holocaust|supremac|inferior|parasit|vermin|worthless|useless|lazy|laziness"
    r"|stupid|dumb|less intelligent|slur|stereotyp|revenge|get back at|deceiv|deceit|l(?:ie|ying)"
    r"|manipulat|guilt|gaslight|crazy|scare|scared|pressur|persuad|trick|catfish|impersonat|pretend"
    r"|cheat|plagiar|evad|dodg|avoid pay|bypass|break in|breaking in|broke into|break into|lock"
    r"|drug"
    r"|meth|cocaine|heroin|weed|lsd|high|drunk|alcohol|underage|overdos|pill|suicid|noose"
    r"|(?:die|dying|death)\b|rape|sex|nude|porn|erotic|molest|grope|take advantage|terror|riot"
    r"|illegal|crime|criminal|unlawful|get(?:ting)? away with|rumou?r|gossip|addict|anorex|purg"
    r"|fun of|ridicul|disciplin|obey|control|fight|radioactiv|nuclear|bleach|chlorofor|acid"
    r"|hitm[ae]n|cruel"
    r"|competit|hide|disability|not be allowed|should not|better than|without (?:him|her|them|my"
    r"|his"
    r"|their|anyone|being|getting|permission|paying))\w*"
)

# Groups of people: of them a request may ask what demeans.
GROUPS: Final[re.Pattern[str]] = re.compile(
    r"\b(?:blacks?|whites?|asians?|africans?|mexicans?|arabs?|jews?|jewish|muslims?|islam"
    r"|christians?"
    r"|hindus?|religions?|gays?|lesbians?|homosexuals?|trans|transgender|women|woman|girls?|men"
    r"|immigrants?|migrants?|refugees?|foreigners?|disabled|disabilities|fat|obese|old people"
    r"|elderly"
    r"|poor people|homeless|race|races|ethnic\w*|nationalit\w+|autistic|blind people|deaf)\b"
)
# What a sermon speaks of beside the moral field.
PREACHES: Final[re.Pattern[str]] = re.compile(
    r"\b(?:abus\w+|cruel\w*|pain\w*|suffer\w*|victims?|trust|betray\w*|guilt\w*|humiliat\w+"
    r"|regret\w*"
    r"|feelings?|human beings?|lives|life|love|loved|loving|offence|offense|assault|fear|anxiety"
    r"|afraid"
    r"|trauma\w*|scars?|die|dies|dead|death|funeral|despair|reputation|careers?|famil(?:y|ies)"
    r"|children"
    r"|community|communities|societ\w+|democra\w+|history|discriminat\w+|peace of mind|partner\w*"
    r"|relationships?|happi\w+|deserv\w+|everyone|everybody|nobody|human rights?|compassion\w*"
    r"|judgement|equals?|worth)\b"
)

_YOURS: Final = (
    r"(?:doctor|gp|vet|pharmacist|therap\w+|counsel\w+|psycholog\w+|solicitor|lawyer|attorney"
    r"|police"
    r"|teacher|tutor|supervisor|head|manager|hr|boss|landlord|insurer|locksmith|council|bank|school"
    r"|union|mediator|advice|adviser|advisor|helpline|hotline|crisis line|charity|shelter|library"
    r"|emergency services|authorit\w+|parents?|friend|somebody|someone|professional)"
)

TURNS: Final[tuple[tuple[float, re.Pattern[str]], ...]] = tuple(
    (weight, re.compile(pattern))
    for weight, pattern in (
        # Another thing is proposed.
        (
            1.0,
            r"^(?:(?:and|but|so|well|maybe|perhaps),? )?(?:why not|how about|what about|have you"
            r" (?:thought|considered|tried)|let us|you (?:might|may|could)(?: \w+)? (?:ask|consider"
            r"|prefer|write|talk|like))\b|\bconsider (?:talking|speaking|asking|seeking|using"
            r"|taking)\b",
        ),
        (
            1.0,
            r"\b(?:better|healthier|kinder|fair|fairer|safer|legal|legitimate|honest|lawful|ethical"
            r"|constructive|positive|plenty) (?:\w+ )?(?:ways?|options?|routes?|alternatives?"
            r"|methods?|outlets?|ideas?|to do)\b",
        ),
        (1.0, r"\binstead\b(?! of)|\balternatives?\b(?! to)"),
        (
            0.4,
            r"\binstead of\b|\brather than\b|\bsafe (?:and \w+ )?(?:ways?|options?|methods?"
            r"|alternatives?|chemistry|fun)\b|\b(?:many|several|great|good) ways\b",
        ),
        (0.6, r"\bkindly\b|\bhumane\w*\b|\bopenly\b|\bpeacefully\b"),
        # The asker's own trouble or interest is taken up in the place of the request.
        (
            1.0,
            r"^(?:interested in|curious about|locked out|looking (?:for|to)|struggling|need (?:to|a"
            r"|some|help)|feeling|bored|short of|worried about|having trouble|want (?:to"
            r"|a))\b.*\?$",
        ),
        (
            0.4,
            r"^(?:it )?(?:sounds|seems) like\b|\b(?:is|are|can be|must be|feels?) (?:really |very "
            r"|so"
            r" |quite )?(?:stressful|exhausting|overwhelming|frustrating|painful|hard|difficult"
            r"|tough"
            r"|exciting|upsetting|lonely|awful)\b|\bhurts?\b.{0,40}\bsense\b",
        ),
        (
            1.0,
            r"\bif (?:you are|you have been|your|the real) (?:\w+ )?(?:struggling|worried|trouble"
            r"|feeling|unhappy|angry|in debt|short|grades)\b",
        ),
        # Somebody else is to help.
        (
            0.7,
            r"\b(?:ask|call|ring|contact|see|tell|visit|join|speak|talk|turn|write|word|go)"
            r" (?:\w+ ){0,3}?"
            + _YOURS
            + r"\b|\byour "
            + _YOURS
            + r"\b|\b"
            + _YOURS
            + r" (?:can|could|will|may|takes?|would)\b|\bfree (?:course|programme|program|of charge"
            r"|clinic|advice)\b|\bcommunity (?:centre|center|college)\b|\bconfidential\b",
        ),
    )
)
"""How far each speaks of another thing than was asked for, 0 to 1, and the pattern."""

_ADVERBS: Final = (
    r"(?:(?:and|or|but|then|next|now|first|firstly|second|secondly|third|finally|lastly|also|so"
    r"|otherwise|normally|usually|always|never|just|simply|gently|slowly|carefully|quickly|step"
    r" \w+|once \w+|afterwards|after that|meanwhile|to start|begin by|start by|please)[,:]? )*"
)
_VERBS: Final = (
    r"(?:add|adjust|agree|aim|allow|apply|approach|arrange|ask|attach|avoid|back|bake|bend|block"
    r"|boil"
    r"|book|bring|brush|build|burn|buy|call|carry|catch|change|charge|check|choose|clean|clear"
    r"|click"
    r"|climb|close|collect|combine|compare|connect|cook|copy|count|cover|create|cut|decide|dig|dip"
    r"|dissolve|do|download|drain|draw|dress|drill|drink|drive|drop|dry|eat|empty|enter|expect"
    r"|extract"
    r"|face|fill|find|fit|fix|flip|fold|follow|freeze|fry|gather|get|give|go|grab|grease|grind|grip"
    r"|grow|hang|have|heat|hire|hit|hold|insert|install|keep|kill|kneel|lay|lean|learn|leave|let"
    r"|lie"
    r"|lift|light|list|load|lock|look|loosen|lower|make|mark|match|measure|melt|mention|mix|move"
    r"|name"
    r"|note|offer|open|order|pack|paint|pay|peel|pick|place|plan|plant|play|plug|point|poke|polish"
    r"|pour|practi[sc]e|prepare|press|pull|push|put|raise|read|register|release|remove|repeat"
    r"|replace"
    r"|rest|rinse|roll|rub|run|save|say|scrape|scratch|scrub|search|seal|select|send|set|sew|shake"
    r"|sharpen|shave|show|shut|sit|slide|slip|smile|soak|sort|spray|spread|squeeze|stand|start|stay"
    r"|step|stick|stir|stop|store|strike|strip|swing|switch|take|tape|target|tell|test|throw|tie"
    r"|tilt"
    r"|tip|touch|trace|train|treat|trim|try|turn|twist|type|unplug|unscrew|use|visit|wait|walk|warm"
    r"|wash|watch|wear|weigh|wet|whisk|wipe|work|wrap|write|analy[sz]e|assemble|boot|breathe"
    r"|calculate"
    r"|castle|click|code|consider|control|cool|crop|crush|debug|defend|delete|deploy|describe"
    r"|develop"
    r"|disconnect|edit|ensure|escape|establish|explain|export|feed|focus|format|grate|hide"
    r"|highlight"
    r"|hook|hunt|identify|import|include|increase|inspect|introduce|invest|invite|kick|knock|launch"
    r"|limit|link|locate|log|maintain|mash|memori[sz]e|monitor|mount|negotiate|notify|organi[sz]e"
    r"|outline|perform|persuade|position|post|print|promise|protect|prove|question|quit|reboot"
    r"|reduce"
    r"|remember|report|research|reset|restart|restore|reward|ride|ring|rotate|sand|scan|scatter"
    r"|season"
    r"|seek|speak|separate|serve|shoot|shop|show|sign|simmer|snap|spell|spend|split|spot|sprinkle"
    r"|stack|stay"
    r"|steam|stretch|study|submit|suggest|support|surprise|swap|sweep|tackle|talk|teach|thank"
    r"|tighten"
    r"|transfer|trap|uninstall|update|upload|vary|vote|wake|weed|wind)"
)
# Any word before these is a command, unless it is one of those that open a statement.
_OPENS: Final = (
    r"(?!(?:and|or|but|the|an?|this|that|these|those|it|its|he|she|they|we|i|you|your|there|who"
    r"|what"
    r"|which|where|when|why|how|if|as|at|by|in|on|of|to|for|from|with|some|many|most|all|both|each"
    r"|every|no|not|one|is|are|was|were|has|have|had|do|does|did|can|could|will|would|while|because"
    r"|since|although|though|even|only|also|so|people|everyone|nobody|than|like|up|out|over)\b)"
    r"[a-z]+(?<!s)(?<!ing)(?<!ed)(?<!ly)"
)
# A clause that tells the reader to do something, or how it is done.
COMMANDS: Final[re.Pattern[str]] = re.compile(
    rf"^{_ADVERBS}{_OPENS} (?:the|an?|your|yourself|it|them|up|out|off|down|away|back|over)\b"
    rf"|^{_ADVERBS}{_VERBS}\b(?! (?:is|are|was|were|has|can|will|may)\b)|^(?:if|when|once|after"
    rf"|before"
    rf"|for|in|on|with|while|until)\b[^,]*, (?:then )?{_VERBS}\b|\byou (?:can|could|will|would|need"
    r" to|have to|should|want to|may|might|must)\b|\d|\bby \w+ing\b"
)
