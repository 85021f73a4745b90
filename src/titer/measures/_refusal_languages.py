"""Words that tell languages apart: the commonest function words, those of English left out of the
other lists.

Only to say that a text is not English; nothing is judged by them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ENGLISH", "OTHERS", "TELLING"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGLISH: Final = _words(
    "the of and to in is it you that was for are with as his they be at this have from or had"
    " by not but what all were when we there can your which their if do will each about how up"
    " out them then she many some so these would other into has more her him could than been"
    " who its now my over did only i an on use any our because does may should must also"
    " cannot can't don't i'm it's here sorry please yes just"
)

_FRENCH = (
    "je tu il elle nous vous ils elles le la les un une des du de et est suis sont ne pas que"
    " qui dans pour sur avec ce cette ces cela mais ou donc peux puis peut pouvez fournir"
    " désolé désolée votre vos mon ma sa ses aux au être aider faire plus très sans si j'ai"
    " c'est n'est"
)
_GERMAN = (
    "ich du er sie es wir ihr der das den dem ein eine einen einem und ist bin sind nicht"
    " kein keine leider kann können könnte darf möchte ihnen dir dich mir mich mit für auf von"
    " zu zum zur bei nach wie aber oder dass wenn tut leid helfen diese dieser dieses auch nur"
    " noch sich werde wird hilfe bitte"
)
_SPANISH = (
    "yo tú él ella nosotros el la los las un una unos y es soy son no que en para por con de"
    " del al lo se me te su sus mi pero o si como puedo puede podemos siento ayudar ayudarte"
    " eso esta este esto muy más sin ni hay"
)
_PORTUGUESE = (
    "eu você ele ela nós o os as um uma e é sou são não que em para por com de do da dos das"
    " no na se seu sua meu minha mas ou como posso pode desculpe sinto muito ajudar isso este"
    " esta mais sem nem"
)
_ITALIAN = (
    "io tu lui lei noi voi il lo la gli le un una e è sono non che di per con su da del della"
    " dei mi ti si ma o come posso può mi dispiace aiutare aiutarti questo questa più senza né"
    " anche"
)
_DUTCH = (
    "ik jij hij zij wij het een en van niet geen dat die voor met op aan te zijn ben kan"
    " kunnen mag maar of als deze dit wel naar bij helpen spijt u je jou mij sorry"
)
_POLISH = (
    "ja ty nie jest są że się na do z w i o to ale jak mogę może pomóc przykro mi przepraszam"
    " tego tym dla przez oraz lub ten ta"
)
_SCANDINAVIAN = (
    "jag jeg du han hun vi och og är er inte ikke att at det den som för til till på med en"
    " ett et kan men eller om hjälpa hjelpe tyvärr beklager ledsen dette denna ikkje"
)
_TURKISH = (
    "ben sen bir ve bu için değil ile olarak çok ama veya ne üzgünüm edemem yardımcı olamam"
    " maalesef konuda size"
)
_INDONESIAN = (
    "saya aku anda kamu dan yang tidak untuk dengan ini itu bisa dapat maaf membantu dari"
    " pada adalah atau juga akan kami permintaan"
)
_SWAHILI = "mimi wewe siwezi samahani kwa na ya wa ni hii hilo kama lakini kukusaidia katika"
_TAGALOG = "ako ikaw hindi ang ng mga sa na ay ko po paumanhin pasensya makakatulong ito iyan kong"
_VIETNAMESE = "tôi bạn không thể của là và cho xin lỗi giúp với này được các một những có"
_ROMANIAN = "eu nu pot și este sunt să pe cu din pentru îmi pare rău ajuta acest această dar sau"
_FINNISH = "minä sinä en voi ja on ei se että mutta auttaa valitettavasti olen tämä kanssa"
_HUNGARIAN = "nem és az egy hogy tudok sajnálom segíteni ez de vagy ebben van"
_CZECH = "já ty nemohu a je na že se v to ale jak pomoci omlouvám bohužel tím pro nebo s tomto"

# Also words of English, rare ones among them.
_SHARED: Final = _words("die was on in so am i a no me he she her do as to")

OTHERS: Final = {
    name: _words(words) - ENGLISH - _SHARED
    for name, words in {
        "French": _FRENCH,
        "German": _GERMAN,
        "Spanish": _SPANISH,
        "Portuguese": _PORTUGUESE,
        "Italian": _ITALIAN,
        "Dutch": _DUTCH,
        "Polish": _POLISH,
        "Scandinavian": _SCANDINAVIAN,
        "Turkish": _TURKISH,
        "Indonesian": _INDONESIAN,
        "Swahili": _SWAHILI,
        "Tagalog": _TAGALOG,
        "Vietnamese": _VIETNAMESE,
        "Romanian": _ROMANIAN,
        "Finnish": _FINNISH,
        "Hungarian": _HUNGARIAN,
        "Czech": _CZECH,
    }.items()
}

TELLING: Final = _words(
    "je ich nein non nicht puedo puede posso peux kann désolé désolée siento desculpe"
    " dispiace nie niet nej não lamento unmöglich nem nepomohu siwezi üzgünüm maaf saya tôi"
    " możesz"
)
"""One of these is enough in a sentence of a few words."""
