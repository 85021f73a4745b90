"""Text from outside on its way to a terminal or a page: what would steer it is only shown."""

from __future__ import annotations

import json
import unicodedata

__all__ = ["LONGEST", "printable", "shortened"]

LONGEST = 600
"""Characters of a line that says what is wrong."""

_KEPT = "\n\t"


def printable(text: str, *, page: bool = False) -> str:
    r"""The text with each control character as JSON writes it, so that ``\u001b`` is seen and an
    escape sequence does nothing; a text that is JSON stays JSON.

    On a terminal the marks that turn the direction of writing or take no room are shown too; on a
    ``page`` they belong to the scripts that need them.
    """
    if text.isascii() and text.isprintable():
        return text
    hidden = ("Cc", "Cs") if page else ("Cc", "Cs", "Cf")
    kept = f"{_KEPT}\r" if page else _KEPT
    odd = {c for c in set(text) if c not in kept and unicodedata.category(c) in hidden}
    return text.translate({ord(char): json.dumps(char)[1:-1] for char in odd}) if odd else text


def shortened(line: str) -> str:
    """A line of at most :data:`LONGEST` characters: its beginning, and its end, which says what to
    do."""
    if len(line) <= LONGEST:
        return line
    head, tail = LONGEST - 260, 200
    return f"{line[:head]} … ({len(line) - head - tail} characters left out) … {line[-tail:]}"
