"""How a model is asked, and what its own generation config is kept for: to be saved again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Said", "asking", "own_generation"]

_FILE = "generation_config.json"


class Said(NamedTuple):
    """An answer, and whether it was ``cut``: it had all the tokens allowed and had not ended."""

    text: str
    cut: bool


@contextmanager
def asking(model: Any, max_new_tokens: int, *, pad: int, ends: Sequence[int]) -> Generator[Any]:
    """Inside, the model has a generation config that asks greedily and for nothing else; given is
    the very config to ask with.

    A released config can ask for anything: sampling, penalties, a time limit, a watermark, words
    that end an answer. transformers takes whatever a given config leaves open from the model's own,
    so it is not enough to give another.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    fresh = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
        eos_token_id=list(ends),
    )
    model.generation_config = GenerationConfig()
    try:
        yield fresh
    finally:
        model.generation_config = own


@contextmanager
def own_generation(model: Any, folder: Path) -> Generator[None]:
    """Inside, the model can be saved whatever its generation config says; the config is written
    into the folder afterwards, word for word.

    transformers refuses to save what it would not ask with, after all the work has been done.
    """
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    if own is None:
        yield
        return
    model.generation_config = GenerationConfig()
    try:
        yield
        own.to_json_file(folder / _FILE, keys_to_pop=["compile_config"])
    finally:
        model.generation_config = own
