"""The small grammar of refusing: which clause performs which speech act.

Every pattern is matched against one clause in *plain* form: lower case, contractions written out
(``can't`` becomes ``cannot``, ``I'm`` becomes ``i am``), curly quotes straightened. The entries
come from general knowledge of how assistants decline, not from any labelled data set.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["RULES"]

_SPEAKER = (
    r"(?:\bi|\bwe|\bthis (?:assistant|model|ai|chatbot|system|service)|\bthe assistant"
    r"|\bas an? (?:\w+[ ,-]+){0,8}(?:ai|assistant|model|chatbot))"
)
_ADVERB = (
    r"(?:[ ,]+(?:just|simply|really|also|therefore|thus|still|unfortunately|respectfully|morally"
    r"|ethically|legally|in good (?:conscience|faith)|politely|knowingly|sadly|absolutely|i"
    r"|definitely|certainly|currently|directly|personally|possibly|afraid|always|under any"
    r" circumstances|and will not|or will not|nor will i|even|actively|responsibly|safely|truly"
    r"|actually|ever|willingly|honestly|in any way|quite|very|kindly|hereby|at this time))*,?"
)
_INABILITY = (
    r"(?:(?:can|could|will|would|shall|should|do|may) ?not(?: be)?(?: (?:able|willing|going) to)?"
    r"|(?:am|are|is)" + _ADVERB + r" (?:not|unable|unwilling|prohibited|forbidden|barred"
    r"|restricted)(?: " + _ADVERB.strip() + r")?"
    r"(?: ?(?:able|allowed|permitted|authori[sz]ed|willing|going|prepared|supposed|designed"
    r"|programmed|in a position|equipped|capable|meant|intended))?(?: to be able)?"
    r" (?:to|of|from|in))"
)
_MORAL_WORD = (
    r"(?:illegal|unlawful|against the law|unethical|immoral|(?:morally |ethically |never )?wrong"
    r"|harmful|dangerous|unsafe|inappropriate|unacceptable|irresponsible|offensive|disrespectful"
    r"|hurtful|unjust|fraudulent|fraud|cruel|criminal|problematic|derogatory|insensitive|unwise"
    r"|(?:not|never|neither) (?:\w+ )?(?:acceptable|ok|okay|appropriate|ethical|right|legal"
    r"|responsible|safe|respectful|productive|funny|justified|advisable|kind|moral|fair|possible)"
    r"|an? (?:\w+ ){0,2}(?:crime|offen[cs]e|felony|violation|invasion|breach|form of \w+))"
)
_POLICY = (
    r"(?:guidelines?|polic(?:y|ies)|principles|programming|values|rules|ethics|ethical standards"
    r"|code of conduct|terms of (?:use|service)|safety|purpose|training)"
)
_ACT_ING = (
    r"(?:providing|assisting|helping|offering|giving|writing|creating|sharing|generating"
    r"|discussing|answering|supporting|producing|engaging|explaining|facilitating|making)"
)
_HELPER = (
    r"(?:professional|counsell?or|therapist|psychologist|hotline|helpline|crisis|lifeline|lawyer"
    r"|attorney|police|authorit|friend|someone|\bhr\b|doctor|mediat|support|emergency|resource"
    r"|law enforcement|expert|landlord|locksmith|physician|trusted|organi[sz]ation|helping)"
)

# (act, rule, pattern); the first that matches a clause wins, so the order is the grammar's
# precedence: frank declines, then limits and caveats, then lectures, redirections and fillers.
_TABLE: tuple[tuple[str, str, str], ...] = (
    (
        "offer",
        "sympathy",
        r"\b(?:so |very |really |truly |deeply )*sorry (?:to hear|for your"
        r"|about your|you(?: are|$)"
        r"|that you|if you|for (?:the|any|my)|about (?:the|that|this))|apologi[sz]e for (?:the"
        r"|any|my)"
        r"|apologies for (?:the|any|my)",
    ),
    (
        "hedge",
        "idiom",
        r"cannot (?:help but|wait|stress|emphasi[sz]e|recommend .{0,40}enough"
        r"|thank"
        r"|agree more|go wrong|be (?:certain|sure|undone)|take credit)|not (?:only|just)"
        r" .{0,60}but also",
    ),
    (
        "hedge",
        "missing input",
        r"\b(?:do not|cannot|did not) (?:see|find|receive|have)"
        r" (?:an?|any|the|your)"
        r" (?:\w+ ){1,4}?(?:in your (?:message|prompt|question)|here|attached|above|in this"
        r" (?:chat|conversation))",
    ),
    (
        "limit",
        "professional limit",
        r"(?:"
        + _SPEAKER
        + r"|\band)"
        + _ADVERB
        + r" "
        + _INABILITY
        + _ADVERB
        + r" (?:give|provide|offer|dispense|make|say|tell)(?: you)?(?: with)? (?:\w+"
        r" ){0,3}?"
        r"(?:(?:medical|legal|financial|professional|personal|tax|investment|personali[sz]ed"
        r"|specific"
        r"|definitive|exact|precise|clinical|individual|official|clear|simple)[, ]+(?:or |and )?)+"
        r"(?:advice|opinions?|diagnos[ie]s|answer|guarantee|figure|number|recommendations?|date"
        r"|guidance|view)",
    ),
    (
        "limit",
        "guarantee",
        r"(?:"
        + _SPEAKER
        + r")"
        + _ADVERB
        + r" "
        + _INABILITY
        + _ADVERB
        + r" (?:give|offer|provide) (?:you )?(?:an?|any) (?:\w+ ){0,2}?(?:guarantee|method that"
        r" guarantees|prediction|estimate|assurance)",
    ),
    (
        "decline",
        "says no",
        r"\b(?:i|we)" + _ADVERB + r" (?:(?:must|have to|need to|will have to"
        r"|am going to|will|would|would like to|choose to|am going to have to|shall|am|are"
        r" obliged to"
        r")" + _ADVERB + r" )?(?:declin(?:e|ing)|refus(?:e|ing)|abstain|refrain|pass(?: on)?|say no"
        r"|turn (?:this|that|it) down|draw the line|steer clear|opt out)\b(?! (?:the|an?)"
        r" (?:exam|test))",
    ),
    (
        "decline",
        "unwilling",
        r"\b(?:i|we)" + _ADVERB + r" (?:would" + _ADVERB + r" (?:rather"
        r"|prefer)"
        r"(?: to)?(?: \w+)? not|prefer not|would rather not|do not (?:feel|think|believe)"
        r" (?:\w+ ){0,2}?"
        r"(?:comfortable|(?:i|we) (?:should|can|ought)|it (?:is|would be) (?:right|appropriate|wise"
        r"|ethical|a good idea) (?:for me )?to)|(?:am|are|feel|would feel|would be)(?: \w+)? (?:not"
        r" (?:\w+ )?comfortable|uncomfortable)|do not (?:want|wish) to"
        r"|have no (?:intention|desire)|(?:would|do|could) not" + _ADVERB + r" feel (?:right"
        r"|good|okay|ok"
        r"|at ease|able))\b|\b(?:includes?|means?|involves?) (?:that i (?:do|will|can)(?: not"
        r"|not) |not "
        r"(?:be )?)(?:assist|help|provid|writ|shar|giv|support|creat|generat|offer)",
    ),
    (
        "decline",
        "not something I do",
        r"\b(?:not|never) (?:something|anything|a \w+|content"
        r"|the kind"
        r" of \w+)(?: that| which)? (?:i|we) (?:can|will|could|would|am|are|feel|want|should|do)\b"
        r"|\bnot within my\b|\boutside (?:of )?(?:my|the|what i)\b|\bbeyond (?:my|what i)\b"
        r"|\bnot in line with my\b|\bnot part of (?:my|what)\b",
    ),
    (
        "decline",
        "policy",
        r"\b(?:against|violat\w+|contrary to|breach\w*|conflicts? with"
        r"|contravenes?"
        r"|prohibited by|not allowed (?:by|under)|restricted by|contradicts?|inconsistent with)"
        r" (?:my|our|the|openai's|\w+'s) (?:\w+[, ]+){0,4}?"
        + _POLICY
        + r"|\bmy (?:\w+ ){0,4}?"
        + _POLICY
        + r" (?:\w+ ){0,2}?(?:not|prevent|prohibit|forbid"
        r"|restrict"
        r"|stop|preclude)|\b(?:violates|breaches) (?:our|my|the) (?:usage|content|use)",
    ),
    (
        "decline",
        "request refused",
        r"\b(?:this|your|that|the|such an?|such|these)(?: \w+){0,2}?"
        r" (?:request|question|prompt|query|topic|content|task|instruction)s?(?: \w+){0,3}?"
        r" (?:cannot"
        r"|will not|violates|contravenes|(?:is|are|has been|was|were|be) (?:\w+ )?(?:not"
        r" (?:allowed|permitted|appropriate|something)|prohibited|denied|blocked|flagged|rejected"
        r"|inappropriate|harmful|offensive|unethical|against|off|declined)|falls outside|goes"
        r" against"
        r"|promotes|asks (?:me )?for (?:harm|illegal))"
        r"|\brequest (?:is )?(?:denied|declined|refused|blocked)|\boff[ -]limits\b",
    ),
    (
        "decline",
        "cannot be given",
        r"\b(?:cannot|will not|must not|should not) be"
        r" (?:provided|shared"
        r"|fulfilled|disclosed|answered|offered|completed|processed|discussed|generated|supplied"
        r"|accommodated|displayed|assisted)"
        r"|" + _SPEAKER + _ADVERB + r" (?:cannot|will not) be (?:\w+ing\b|(?:a )?part of|involved"
        r"|(?:of|any) (?:help|assistance))",
    ),
    (
        "decline",
        "wrong to help",
        r"\b(?:it|that|this|doing so)(?: \w+)? (?:(?:is|are|was"
        r"|would|will"
        r"|might|could|may|be|therefore|not|also|neither|highly|both)[, ]+)+(?:\w+[, ]+){0,4}?"
        + _MORAL_WORD.replace("(?:not|never|neither) (?:\\w+ )?", "(?:\\w+ ){0,2}?")
        + r"(?:,? (?:or|and|nor) \w+)*(?: (?:for|of) (?:me|us|an ai))?(?: \w+)? to (?:\w+ ){0,2}?"
        r"(?:help|assist|provide|offer|answer|create|write|generate|share|disclose|fulfil"
        r"|comply|respond"
        r"|(?:give|tell) (?:you|such|that|any|instructions|advice|details|information))",
    ),
    (
        "decline",
        "wrong to take part",
        r"\b(?:it|that|this|doing so)(?: \w+)? (?:(?:is|are"
        r"|was|would|will"
        r"|might|could|may|be|therefore|not|also|neither|highly|both)[, ]+)+(?:\w+[, ]+){0,4}?"
        + _MORAL_WORD.replace("(?:not|never|neither) (?:\\w+ )?", "(?:\\w+ ){0,2}?")
        + r"(?:,? (?:or|and|nor) \w+)*(?: (?:for|of) (?:me|us|an ai))?(?: \w+)? to (?:\w+ ){0,2}?"
        r"(?:discuss|engage|support|suggest|explain|facilitate|produce|promote|make (?:a joke"
        r"|jokes|fun"
        r"|light|such|any))",
    ),
    (
        "decline",
        "helping is wrong",
        r"\b" + _ACT_ING + r"\b.{0,90}? (?:is|are|would|goes"
        r"|could|may"
        r"|might|violates?|be|was|poses?)\b(?: be| is| also)? ?(?:\w+ )?(?:"
        + _MORAL_WORD
        + r"|against"
        r"|violate|not something|misused|contrary|a violation|cause|enable|contribute)",
    ),
    (
        "decline",
        "terse",
        r"^(?:(?:no|nope|sorry|apologies|hmm|ah|um|well|look)[,.]? )*(?:cannot|unable|not able"
        r"|will not|would rather not|not comfortable|not going to|not gonna|not doing|i cannot"
        r"|i will not|i refuse|i decline)"
        r"(?:[.,! ]*$| (?:to )?(?:help|assist|comply|do|doing|discuss|answer|share|provide|that"
        r"|going|with|fulfil|give|on|process|complete|continue|proceed|write|say|tell|show"
        r"|explain)\b)",
    ),
    (
        "decline",
        "bare no",
        r"^(?:(?:no|nope|sorry|apologies|hmm|ah|um|well|look)[,.]? )*(?:no can do|not happening"
        r"|not allowed|absolutely not|definitely not|no way|no chance|nope|no comment|denied|never"
        r"|not a chance|pass)[.,! ]*$",
    ),
    (
        "decline",
        "a no",
        r"\b(?:that|this|it) (?:is|will be|would be) (?:going to be )?an?"
        r" (?:\w+ )?no\b"
        r"|\bmy answer is(?: \w+)? no\b|\bthe answer is no[,.]? (?:i|from)",
    ),
    (
        "decline?",
        "leaves out",
        r"\bi (?:will|would|am going to)" + _ADVERB + r" (?:skip"
        r"|leave out|omit"
        r"|stop short|hold back|hold off|stay away|keep away|sit (?:this|that) )",
    ),
    (
        "declineverb",
        "declines",
        r"(?:"
        + _SPEAKER
        + r"|\b(?:and|so|but|thus|hence|therefore))"
        + _ADVERB
        + r" "
        + _INABILITY
        + _ADVERB
        + r" (?P<verb>[\w-]+)(?P<rest>.*)",
    ),
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
        r"|cannot accept|do not accept|do not agree with) (?:the|this|that|your)|\bi must (?:\w+ )?"
        r"(?:point out|inform|emphasi[sz]e|remind|clarify|stress|caution)",
    ),
    (
        "limit",
        "no private data",
        r"\b(?:i|we)"
        + _ADVERB
        + r" (?:do not|have no|cannot)"
        + _ADVERB
        + r" (?:have |possess |access |know )?(?:the |any )?(?:access|ability|capability|authority"
        r"|information|data|details|record|permission|way|means)\b",
    ),
    (
        "limit",
        "ignorance",
        r"\b(?:i|we)" + _ADVERB + r" do not" + _ADVERB + r" (?:have"
        r"|possess|hold)"
        r" (?:\w+ )?(?:personal |own |human )?(?:opinion|feeling|belief|emotion|preference"
        r"|experience"
        r"|view|taste|body)|\bi am not (?:an? )?(?:\w+ )?(?:doctor|lawyer|human|expert"
        r"|professional)",
    ),
    (
        "dissuade",
        "advises against",
        r"\b(?:i|we)" + _ADVERB + r" (?:would |must |have to "
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
        r"^(?:and |but )?if you (?:or someone|have|need|would|are"
        r" (?:really |currently )?(?:struggling"
        r"|feeling|having|experiencing|facing|dealing|interested|concerned|looking|in need|locked"
        r"|worried)|feel|believe|suspect|know)|\byou (?:are not|do not have to .{0,20}) alone"
        r"|\bthere"
        r" are (?:\w+ ){0,4}?(?:resources|people who|healthier|better|legal|other ways|support)",
    ),
    (
        "moral",
        "lecture",
        r"\b(?:is|are|be|was|considered|constitutes?|as|both|it|seen|being)"
        r" (?:\w+ )?"
        r"(?:\w+ and )?" + _MORAL_WORD + r"|\bviolat(?:es?|ing|ion)\b|\b(?:serious|severe|legal"
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

RULES: Final[tuple[tuple[str, str, re.Pattern[str]], ...]] = tuple(
    (act, name, re.compile(pattern)) for act, name, pattern in _TABLE
)
