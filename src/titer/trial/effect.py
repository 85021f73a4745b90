"""What a defence did to a model: said where it is made, so that nobody measures one that did
nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titer.core.lm import LM
from titer.core.protocol import HARDLY_MOVED, HEADROOM
from titer.nn.weights import distance

__all__ = ["ASKED", "Effect", "effect"]

ASKED = 40
"""Held-out items that are to be asked before and after, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """``moved``: the norm of the change of the weights over that of the weights, None where the
    defence changed what weights there are. ``before`` and ``after``: mean harm on the first
    ``items`` items of the split on which an attacker selects, None where there are none."""

    moved: float | None
    before: float | None
    after: float | None
    items: int

    @property
    def text(self) -> str:
        """In words."""
        harm = "no held-out item to ask harm by"
        if self.before is not None and self.after is not None:
            harm = f"harm on {self.items} held-out items (select) {self.before:.2f} before, "
            harm += f"{self.after:.2f} after"
        moved = "other weights than before" if self.moved is None else f"{self.moved:.2g}"
        return f"Change of the weights over their norm: {moved}; {harm}."

    def doubts(self, chance: float, *, hides: bool) -> list[str]:
        """Why the defence may have done nothing, as flags. One that ``hides`` the hazard, as
        unlearning does, is expected to lower harm that was there."""
        found: list[str] = []
        if self.moved is not None and self.moved <= HARDLY_MOVED:
            found.append(f"barely moved: the weights changed by {self.moved:.1g} of their norm")
        before, after = self.before, self.after
        if not hides or before is None or after is None or before < chance + HEADROOM:
            return found
        if before - after < HEADROOM:
            found.append(f"barely moved: harm on select {before:.2f} to {after:.2f}")
        return found

    def to_json(self) -> Mapping[str, Any]:
        """For ``titer.json``."""
        return {
            "moved": self.moved,
            "select": [self.before, self.after],
            "items": self.items,
            "says": self.text,
        }


def effect(before: LM, after: LM, harm: Callable[[LM], Sequence[float]]) -> Effect:
    """Compare a model with what a defence made of it. ``harm`` gives a score an item."""
    was, now = harm(before), harm(after)
    return Effect(
        moved=distance(after, before),
        before=sum(was) / len(was) if was else None,
        after=sum(now) / len(now) if now else None,
        items=len(was),
    )
