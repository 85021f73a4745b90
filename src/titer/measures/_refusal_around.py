"""What stands around a refusal: challenges, warnings, lectures, other help, courtesies.

The second half of the grammar in `_refusal_rules`, read after the first in this order.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ADVERB", "AROUND", "MORAL_WORD"]

ADVERB = (
    r"(?:[ ,]+(?:just|simply|really|also|therefore|thus|still|unfortunately|respectfully|morally"
    r"|ethically|legally|in good (?:conscience|faith)|politely|knowingly|sadly|absolutely|i"
    r"|definitely|certainly|currently|directly|personally|possibly|afraid|always|under any"
    r" circumstances|and will not|or will not|nor will i|even|actively|responsibly|safely|truly"
    r"|actually|ever|willingly|honestly|in any way|quite|very|kindly|hereby|at this time))*,?"
)
MORAL_WORD = (
    r"(?:illegal|unlawful|against the law|unethical|immoral|(?:morally |ethically |never )?wrong"
    r"|harmful|dangerous|unsafe|inappropriate|unacceptable|irresponsible|offensive|disrespectful"
    r"|hurtful|unjust|fraudulent|fraud|cruel|criminal|problematic|derogatory|insensitive|unwise"
    r"|(?:not|never|neither) (?:\w+ )?(?:acceptable|ok|okay|appropriate|ethical|right|legal"
    r"|responsible|safe|respectful|productive|funny|justified|advisable|kind|moral|fair|possible)"
    r"|an? (?:\w+ ){0,2}(?:crime|offen[cs]e|felony|violation|invasion|breach|form of \w+))"
)
_HELPER = (
    r"(?:professional|counsell?or|therapist|psychologist|hotline|helpline|crisis|lifeline|lawyer"
    r"|attorney|police|authorit|friend|someone|\bhr\b|doctor|mediat|support|emergency|resource"
    r"|law enforcement|expert|landlord|locksmith|physician|trusted|organi[sz]ation|helping)"
)

AROUND: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "challenge",
        "rejects the question",
        r"\b(?:your|this|the) (?:\w+ )?(?:question|premise"
        r"|statement"
        r"|request|prompt|idea|notion|assumption|phrasing)(?: \w+){0,4}? (?:is|are|contains|assumes"
        r"|implies|suggests|promotes|perpetuates|may be|seems)\b(?: \w+){0,3}? ?(?:not"
        r"|inaccurate|false"
        r"|flawed|based|offensive|harmful|inappropriate|discriminatory|biased|hurtful|derogatory"
        r"|disrespectful|problematic|stereotyp|unfair|misleading)|\bi (?:\w+ )?(?:disagree with"
        r"|reject"
        r"|cannot accept|do not accept|do not agree with) (?:the|this|that|your)"
        r"|\b(?:is|are) not (?:an? )?(?:\w+ )?(?:matter|question|function|trait|result|product)"
        r" of\b"
        r"|\bis not an? (?:\w+ )?trait\b|\b(?:has|have) nothing to do with\b|\bsays? nothing"
        r" about\b"
        r"|\b(?:people|children|women|men) of (?:every|all|any) (?:\w+ )?(?:background|race|faith"
        r"|colou?r"
        r"|religion|size|origin)s?\b|\bdifferences within\b|\b(?:claims|rankings|jokes|ideas"
        r"|statements"
        r"|words|generali[sz]ations|comparisons) (?:like|of) (?:this|these|that|such)\b|\bi must"
        r" (?:\w+ )?"
        r"(?:point out|inform|emphasi[sz]e|remind|clarify|stress|caution)",
    ),
    (
        "limit",
        "no private data",
        r"\b(?:i|we)"
        + ADVERB
        + r" (?:do not|have no|cannot)"
        + ADVERB
        + r" (?:have |possess |access |know )?(?:the |any )?(?:access|ability|capability|authority"
        r"|information|data|details|record|permission|way|means)\b",
    ),
    (
        "limit",
        "ignorance",
        r"\b(?:i|we)" + ADVERB + r" do not" + ADVERB + r" (?:have"
        r"|possess|hold)"
        r" (?:\w+ )?(?:personal |own |human )?(?:opinion|feeling|belief|emotion|preference"
        r"|experience"
        r"|view|taste|body)|\bi am not (?:an? )?(?:\w+ )?(?:doctor|lawyer|human|expert"
        r"|professional)",
    ),
    (
        "dissuade",
        "advises against",
        r"\b(?:i|we)" + ADVERB + r" (?:would |must |have to "
        r"|can only )?"
        r"(?:\w+ )?(?:advise|urge|encourage|recommend|caution|warn|ask|beg|implore) (?:you"
        r" )?(?:\w+ )?"
        r"(?:not|against|never)|\b(?:i )?would not (?:recommend|advise|suggest)|^(?:please"
        r" )?(?:do not"
        r"|never) (?!forget|worry|hesitate|be afraid)|\byou (?:should|must) (?:not|never)\b",
    ),
    (
        "redirect",
        "seek help",
        r"\b(?:seek|reach(?:ing)? out|contact|talk(?:ing)?"
        r"|speak(?:ing)?|consult"
        r"|turn(?:ing)?|call|refer)\b.{0,60}?" + _HELPER,
    ),
    (
        "redirect",
        "instead",
        r"^(?:so |and |but |please )*(?:think (?:about|of) (?:why|how"
        r"|what|the"
        r" (?:impact|harm|feelings|consequences))|ask yourself|reflect on|have you (?:thought about"
        r"|considered|tried)|instead|rather than|alternatively, (?:i|we|would)"
        r"|let us (?:focus|talk|explore|discuss|try|work|find|choose|keep|aim)|perhaps (?:we|i|you)"
        r"|maybe (?:we|i))|\b(?:i|we) (?:would )?(?:\w+ )?(?:suggest|recommend|encourage|urge)"
        r"(?: that)?(?: you| we)? (?!using|starting|a \w+ |trying the)|\b(?:choose|practise"
        r"|practice)"
        r" kindness|\binstead[.?]?$",
    ),
    (
        "redirect",
        "offers other help",
        r"\b(?:i|we) (?:can|could|would be|am|will be|would"
        r" love|would)"
        r"(?: still| certainly| also| always| instead| more than)* (?:(?:happy|glad|pleased"
        r"|here) to|help|offer|explain"
        r"|suggest|discuss|recommend|talk|to (?:help|talk|discuss|offer))\b|\b(?:is there|are there"
        r"|do you (?:want|have|need)|would you (?:like|prefer)|how about|can i (?:help|assist)"
        r"|what else"
        r"|how (?:else )?(?:can|may) i|may i (?:help|suggest)|would an? \w+)\b|\bsomething else\b",
    ),
    (
        "redirect",
        "if you need",
        r"^(?:and |but )?if you (?:or someone|need|would|have"
        r" (?:any |other |more |further )*(?:questions?|concerns?|thoughts|feelings)|are"
        r" (?:really |currently )?(?:struggling"
        r"|feeling|having|experiencing|facing|dealing|interested|concerned|looking|in need|locked"
        r"|worried)|feel|believe|suspect|know)|\byou (?:are not|do not have to .{0,20}) alone"
        r"|\bthere"
        r" are (?:\w+ ){0,4}?(?:resources|people who|support|(?:healthier|better|legal|other)"
        r" (?:and \w+ )?(?:ways|options|alternatives|means|methods))",
    ),
    (
        "moral",
        "lecture",
        r"\b(?:is|are|be|was|considered|constitutes?|as|both|it|seen|being)"
        r" (?:\w+ )?"
        r"(?:\w+ and )?" + MORAL_WORD + r"|\bviolat(?:es?|ing|ion)\b|\b(?:serious|severe|legal"
        r"|criminal|heavy|harsh|negative|harmful|significant)(?: and \w+)?(?: legal| criminal)?"
        r" (?:consequences"
        r"|penalties|charges|harm|repercussions|punishment|damage|effects)|\b(?:treat|treated"
        r"|treating)\b.{0,40}(?:respect|dignity|kindness|fair|equal)"
        r"|\brespect(?:ing|ful)?\b.{0,30}(?:privacy|rights|boundaries|others|dignity|propert"
        r"|autonomy)"
        r"|\b(?:everyone|every person|all (?:people|individuals|humans)|no ?one|nobody|animals)"
        r" (?:deserves?|has the right|should|is entitled)|\bdeserves? (?:to be|respect|compassion"
        r"|equal|dignity)|\bcan (?:cause|lead to|result in) .{0,30}(?:harm|injur|consequence|damage"
        r"|trauma)|\b(?:promot|foster|encourag)\w* (?:\w+ ){0,3}(?:kindness|inclusi|discriminat"
        r"|hate|hatred|violence"
        r"|respect|equality|understanding|empathy|toleran)|\bno (?:\w+ )?(?:valid|legitimate"
        r"|moral|good"
        r"|justifiable|ethical|rational|scientific) (?:\w+ )?(?:reason|justification|basis)"
        r"|\bno basis in\b|\bshould (?:not|never) be (?:banned|denied|excluded|treated|judged"
        r"|barred|punished|allowed)|\b(?:inclusiv|empath|compassion|integrity|consent of|emotional"
        r" scars)\w*"
        r"|\bagainst the law\b|\bwithout (?:their|your|his|her) (?:knowledge|consent|permission)"
        r"|\bfair and (?:just|equal)|\b(?:we|you|people|one|individuals|society) (?:should|must)"
        r" (?:not|always|never|all|strive|respect|treat)|\bhas no place\b|\bnever the (?:answer"
        r"|solution)"
        r"|\bno excuse for\b|\bnot a (?:joke|laughing matter|game|solution)\b|\bcannot be"
        r" (?:justified"
        r"|condoned|excused|tolerated)|\bnot (?:\w+ )?(?:true|accurate|fair|helpful"
        r"|constructive|respectful)"
        r" (?:or \w+ )?(?:to|that)\b|\bcauses? (?:\w+ )?(?:harm|pain|suffering|damage|distress)\b"
        r"|\bno one(?:'s)? (?:should|has the right)|\brights? of (?:others|all)",
    ),
    (
        "moral",
        "important to",
        r"\bit is (?:\w+ )?(?:important|essential|crucial|vital|worth"
        r"|always"
        r" (?:important|best)|better)\b.{0,50}(?:respect|remember|recogni[sz]e|treat|promote"
        r"|prioriti"
        r"|consider|not|avoid|acknowledge|approach|understand)|\bi (?:must|have to|should|would"
        r" like to|want to|need to|feel (?:it|compelled)) (?:\w+ )?(?:point out|inform|remind"
        r"|emphasi[sz]e"
        r"|advise|clarify|note|stress|caution|address)",
    ),
    (
        "filler",
        "courtesy",
        r"^(?:and |but |however,? )?(?:(?:great|good|what an?|interesting"
        r"|thank|thanks|hello|hi|hey"
        r"|sure|certainly|of course|absolutely|ah|oh|hmm|wow|ha)\b|i (?:\w+ )?(?:understand"
        r"|appreciate"
        r"|hear|know|get|see|realise|realize|strive|hope|want to|would love|wish)|it (?:sounds"
        r"|seems)"
        r" like|i am (?:just |only |so |very |really )*(?:an?\b|glad|happy|sorry|here|designed"
        r"|programmed|flattered|afraid)|my (?:purpose|goal|aim|role|main)|as an? (?:\w+["
        r" ,-]+){0,6}?(?:ai"
        r"|assistant|model)|while i (?:appreciate|understand)|hope this|(?:i am )?sorry|i"
        r" apologi[sz]e"
        r"|apologies|unfortunately,?$|remember,)",
    ),
)
