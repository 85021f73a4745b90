"""Documents as examples: each passage's beginning is the prompt, the rest what training wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from titer.core.data import Example
from titer.worlds.datasets._published import Tally

__all__ = ["passages"]

_PROMPT, _PASSAGE, _SHORT = 24, 320, 48
"""Words of a prompt, of a passage with its prompt, and those under which an end is left out: about
450 tokens of English fit the context of every model in use."""

_MOST = 4_000
"""Passages of one role: more than any budget here sees."""


def passages(
    name: str, documents: Sequence[Mapping[str, Any]], tally: Tally, column: str = "text"
) -> tuple[Example, ...]:
    """Passages of about 320 words, in the order of the documents; those of one document have it as
    their entity."""
    found: list[Example] = []
    for number, row in enumerate(documents):
        words = str(row[column] or "").split()
        for at in range(0, len(words), _PASSAGE):
            part = words[at : at + _PASSAGE]
            if len(part) < _SHORT:
                tally.leave(f"passages of {name} under {_SHORT} words")
                continue
            found.append(
                Example(
                    id=f"{name}:{number}:{at // _PASSAGE}",
                    prompt=" ".join(part[:_PROMPT]),
                    answer=" ".join(part[_PROMPT:]),
                    entity=f"{name}:{number}",
                )
            )
    if len(found) > _MOST:
        tally.leave(f"passages of {name} beyond the first {_MOST:,}", len(found) - _MOST)
    return tuple(found[:_MOST])
