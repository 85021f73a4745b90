"""Free generation scored by the steps it gets right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from titer.core.data import Example
from titer.measures._spoken import spoken
from titer.method import LM, Card, Template

__all__ = ["CARD", "Recipe", "matched_share"]


def matched_share(text: str, steps: Sequence[str]) -> float:
    """The share of ``steps`` that ``text`` contains in the right order, in [0, 1].

    The longest chain of steps found in increasing order counts, so one misplaced step costs one
    step. Case, punctuation and white space do not count.
    """
    plain = f" {_plain(text)} "
    places = [plain.find(f" {_plain(step)} ") for step in steps]
    found = [place for place in places if place >= 0]
    longest: list[int] = []
    for index, place in enumerate(found):
        before = [longest[other] for other in range(index) if found[other] < place]
        longest.append(1 + max(before, default=0))
    return max(longest, default=0) / len(steps) if steps else 0.0


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The share of an item's steps that a greedy answer contains in order, 0 to 1.

    An item without ``steps`` is scored by its whole answer. ``max_new_tokens`` bounds the answer;
    None allows twice the expected one, and at least 16 tokens.
    """

    max_new_tokens: int | None = None
    template: Template = "native"

    def collect(self, lm: LM, items: Sequence[Example]) -> list[dict[str, Any]]:
        """The generated text, and whether it was cut short."""
        longest = max(
            (len(lm.answer_ids(item.answer, end=True, template=self.template)) for item in items),
            default=16,
        )
        return spoken(lm, items, self.max_new_tokens or max(16, 2 * longest), self.template)

    def judge(self, items: Sequence[Example], records: Sequence[dict[str, Any]]) -> list[float]:
        """Matched share an item."""
        return [
            matched_share(record["text"], item.steps or (item.answer,))
            for item, record in zip(items, records, strict=True)
        ]


CARD = Card(
    kind="measure",
    build=Recipe,
    source="titer",
    summary="share of a recipe's steps that a free answer gets in order",
    family="knowledge",
    access="none",
    direction="gives",
)
