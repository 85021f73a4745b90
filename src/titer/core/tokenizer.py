"""A tokenizer as a model needs it: faithful to its folder, able to pad, asked each text once."""

from __future__ import annotations

import datetime
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput

__all__ = [
    "FIXED",
    "TODAY",
    "applied",
    "faithful",
    "rendered",
    "template_of",
    "tokens",
    "turn_end",
    "with_pad",
]

_PROBE = "It's 48+24 = 72, isn't it?\n\n  The Naïve café (3.5 %) — ÀÉ 東京 x_y THEN 1234567\t!"
"""Text on which ways of cutting differ: digits, spaces, case, accents, contractions."""

TODAY = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
"""The day that every chat template is told it is."""

_DIRECTIVES = "aAbBcdHIjmMpSuUVwWxXyYZzfFDTeGhs"
FIXED = "What is this?"
_ANSWER = "an answer"
_CHANCE = re.compile(r"""[|'"]\s*random\b|\blipsum\b""")


def faithful(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer that the folder's tokenizer.json holds.

    For some model types (Qwen2 is one) transformers 5 takes a tokenizer class of its own choice,
    which keeps the vocabulary but may cut text otherwise and add tokens that have no embedding.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_file(str(path))
    own.no_truncation()
    own.no_padding()
    asked: list[int] = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    same = asked == own.encode(_PROBE, add_special_tokens=False).ids
    if same and len(tokenizer) <= own.get_vocab_size():
        return tokenizer
    logging.getLogger(__name__).info("%s: reading tokenizer.json as it is", folder)
    stock: Any = PreTrainedTokenizerFast
    return stock.from_pretrained(folder, local_files_only=True)


@lru_cache(maxsize=100_000)
def tokens(tokenizer: Any, text: str, *, special: bool) -> tuple[int, ...]:
    """A text's tokens, kept: a study asks the same items thousands of times, and of a small model
    tokenising takes as long as the answer."""
    return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])


@lru_cache(maxsize=100_000)
def rendered(tokenizer: Any, template: str, prompt: str) -> str:
    """A prompt in its chat template, kept: rendering takes longer than tokenising.

    A template that prints the date prints :data:`TODAY`, whenever it is asked: a study that is run
    again another day asks the same.
    """
    return applied(tokenizer, template, [{"role": "user", "content": prompt}], opened=True)


def applied(tokenizer: Any, template: str, turns: list[dict[str, Any]], *, opened: bool) -> str:
    """A conversation in its template, with a clock that stands still; ``opened``: the template adds
    what an answer of the assistant begins with."""
    return tokenizer.apply_chat_template(
        turns,
        chat_template=_pinned(template),
        tokenize=False,
        add_generation_prompt=opened,
    )


def _pinned(template: str) -> str:
    """The template with a clock that stands still, where it asks one. transformers hands it no
    function, so the clock is a macro, which goes before what transformers gives."""
    if "strftime_now" not in template:
        return template
    known = {f"%{letter}": TODAY.strftime(f"%{letter}") for letter in _DIRECTIVES}
    known |= {f"%-{letter}": value.lstrip("0") or "0" for (_, letter), value in known.items()}
    told = "".join(f" | replace({key!r}, {value!r})" for key, value in known.items())
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{told} }}}}{{%- endmacro -%}}{template}"


def template_of(tokenizer: Any) -> str | None:
    """The chat template in which a user's prompt is put; of several, the default one.

    Raises:
        BadInput: there are several and no default, or it draws by chance.
    """
    found = tokenizer.chat_template
    if isinstance(found, dict):
        found = cast(dict[str, str], found).get("default")
        if found is None:
            raise BadInput("the tokenizer has several chat templates and none is named default.")
    if found and _draws(found):
        raise BadInput(
            "the chat template draws by chance (random, lipsum), so that no prompt is ever the "
            "same; give one that does not."
        )
    return found or None


@lru_cache(maxsize=100)
def _draws(template: str) -> bool:
    return bool(_CHANCE.search(template))


@lru_cache(maxsize=100)
def turn_end(tokenizer: Any, template: str) -> int | None:
    """The token by which a chat template closes a turn of the assistant, None where it closes by
    none."""
    turns = [{"role": "user", "content": FIXED}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = applied(tokenizer, template, turns, opened=False)
    except Exception:  # a template may refuse anything, and some take no answers
        return None
    _, found, rest = text.rpartition(_ANSWER)
    known = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for token in tokens(tokenizer, rest, special=False) if found else ():
        if token in known:
            return token
        if tokenizer.decode([token]).strip():
            return None
    return None


def with_pad(tokenizer: Any) -> Any:
    """The tokenizer, padding with its end-of-sequence token where it has no other.

    Raises:
        BadInput: it has no end-of-sequence token.
    """
    if tokenizer.eos_token_id is None:
        raise BadInput(
            "the tokenizer has no end-of-sequence token; set eos_token and save it again."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
        logging.getLogger(__name__).debug("no padding token: the end-of-sequence token is used")
    return tokenizer
