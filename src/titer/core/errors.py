"""Errors that a person can act on: what came, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BadInput",
    "BudgetExceeded",
    "Diverged",
    "NotFinite",
    "TiterError",
    "UnknownName",
    "nearest",
]


class TiterError(Exception):
    """Base of every error titer raises on purpose."""


class BadInput(TiterError, ValueError):
    """The user's input is wrong. The message is one sentence; the command line exits with 2.

    Several faults travel together: ``faults`` holds one sentence each.
    """

    def __init__(self, *faults: str) -> None:
        self.faults: tuple[str, ...] = faults
        super().__init__("\n".join(faults))

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, ...]]:
        return type(self), self.faults


class NotFinite(BadInput):
    """A model holds weights that are NaN or infinite, and nothing else is wrong with it."""


class UnknownName(BadInput):
    """A name that is not in the catalogue; the message suggests the nearest."""


class BudgetExceeded(TiterError):
    """A method spent more than it was given."""


class Diverged(TiterError):
    """Training produced a loss or weights that are not finite."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint such as `` Did you mean 'npo'?``, or an empty string when nothing is close."""
    folded = {known.lower(): known for known in allowed}
    matches = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f" Did you mean {folded[matches[0]]!r}?" if matches else ""
