"""The control that defends nothing."""

from __future__ import annotations

from dataclasses import dataclass

from titer.method import LM, Card, Run

__all__ = ["CARD", "Undefended"]


@dataclass(frozen=True, kw_only=True)
class Undefended:
    """Return a copy of the model as it is."""

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        return lm.clone()


CARD = Card(
    kind="defence",
    build=Undefended,
    source="a control",
    summary="no defence: the model as it came",
    family="control",
    access="none",
)
