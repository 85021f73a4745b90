"""Tiny models that tests take as given: trained once, and the same bits on every processor.

Trained anew for each run they would be others on each processor, since training amplifies rounding,
and so would be what an attack makes of them. ``python -m tests.kept`` trains them again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from titer.core.lm import LM

__all__ = ["FOLDER", "keep", "kept", "train"]

FOLDER = Path(__file__).parent / "data" / "planted"
_MAKERS: dict[str, Callable[[], LM]] = {}


def keep(name: str, make: Callable[[], LM]) -> Callable[[], LM]:
    """A function that returns the model of that name, which ``make`` trains. It is one object for
    all who ask; who changes it clones it first."""
    _MAKERS[name] = make
    return lambda: _load(name)


def kept() -> tuple[str, ...]:
    """The names of all models that are kept."""
    from tests import planted
    from tests.attacks import planted as refusing

    assert planted.__all__
    assert refusing.__all__
    return tuple(_MAKERS)


def train(name: str) -> LM:
    """The model, trained here and now."""
    return _MAKERS[name]()


@cache
def _load(name: str) -> LM:
    return LM.load(FOLDER / name, device="cpu")


def _main() -> None:
    torch.set_num_threads(1)
    for name in kept():
        train(name).save(FOLDER / name)
        print(name, flush=True)


if __name__ == "__main__":
    # Under its own name, or the models would register with another copy of this module.
    from tests.kept import _main as main

    main()
