"""A tokenizer as a model needs it: faithful to its folder, able to pad, asked each text once."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from titer.core.errors import BadInput

__all__ = ["faithful", "rendered", "tokens", "with_pad"]

_PROBE = "It's 48+24 = 72, isn't it?\n\n  The Naïve café (3.5 %) — ÀÉ 東京 x_y THEN 1234567\t!"
"""Text on which ways of cutting differ: digits, spaces, case, accents, contractions."""


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
def rendered(tokenizer: Any, template: Any, prompt: str) -> str:
    """A prompt in its chat template, kept: rendering takes longer than tokenising."""
    del template  # part of the key: a tokenizer may be given another one
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )


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
