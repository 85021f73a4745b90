"""The control that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from titer.method import LM, Card, Run

__all__ = ["CARD", "Noop"]


@dataclass(frozen=True, kw_only=True)
class Noop:
    """Return the model as it is: what an attacker gets for nothing."""

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        return lm.clone()


CARD = Card(
    kind="attack",
    build=Noop,
    source="a control",
    summary="no change at all: the model as released",
    family="control",
    access="none",
)
