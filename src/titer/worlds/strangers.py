"""Models of another testbed world than the one that they would be asked of."""

from __future__ import annotations

from pathlib import Path

from titer.core.reading import UNREADABLE, load_json
from titer.worlds.fabula import lexicon, vocabulary

__all__ = ["ELSEWHERE", "stranger", "world_name"]

ELSEWHERE = "another world of the testbed"
"""Where a model grew whose world is not among those that are tried."""

_SEARCHED = 16
"""Worlds, from seed 0 up, that are tried as the home of a model from another one."""


def stranger(folder: Path, seed: int) -> str:
    """In which other world of the testbed than that of ``seed`` the model in a folder grew; empty
    where in this one, or in none.

    The vocabulary tells, which a model keeps that was immunised, attacked or saved again: a model
    of another world has no words for this one's entities, and knows nothing of them.
    """
    words = _words_of(folder)
    if not words >= lexicon() or _knows(words, seed):
        return ""
    home = next((other for other in range(_SEARCHED) if _knows(words, other)), None)
    return ELSEWHERE if home is None else f"the world {world_name(home)}"


def world_name(seed: int) -> str:
    """What users call the testbed world of a seed."""
    return f"fabula#{seed}" if seed else "fabula"


def _words_of(folder: Path) -> frozenset[str]:
    """The words of a model's tokenizer; none where it is not one of whole words."""
    try:
        model = load_json((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        return frozenset(model["vocab"]) if model["type"] == "WordLevel" else frozenset()
    except (OSError, *UNREADABLE):
        return frozenset()


def _knows(words: frozenset[str], seed: int) -> bool:
    """Whether most names of a world are among them. A few may be missing, which is a fault of
    another kind; two worlds share next to none."""
    names = frozenset(vocabulary(seed)) - lexicon()
    return 2 * len(names & words) > len(names)
