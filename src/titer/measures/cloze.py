"""The answer as the model's own first choice, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from titer.core.data import Example
from titer.measures._ask import answer_scores, cut
from titer.method import LM, Card, Template

__all__ = ["CARD", "Cloze"]


@dataclass(frozen=True, kw_only=True)
class Cloze:
    """1 where greedy decoding would say the answer word for word, 0 elsewhere.

    Teacher forcing decides it in one forward pass: greedy decoding says the answer exactly when
    every token of it is the likeliest given those before.
    """

    template: Template = "native"

    def collect(self, lm: LM, items: Sequence[Example]) -> list[dict[str, Any]]:
        """Whether every token was first choice, and the answer's log-likelihood in nats."""
        return self.collect_each(lm, items, 1)[0]

    def collect_each(
        self, lm: LM, items: Sequence[Example], copies: int
    ) -> list[list[dict[str, Any]]]:
        """The records of each of ``copies`` models that ``lm`` runs side by side."""
        limit = lm.context_length()
        rows = [
            cut(
                lm.prompt_ids(item.prompt, self.template),
                lm.answer_ids(item.answer, end=False, template=self.template),
                limit,
            )
            for item in items
        ]
        return [
            [{"exact": s.greedy, "loglik": s.loglik, "tokens": s.tokens} for s in scores]
            for scores in answer_scores(lm, rows, copies=copies)
        ]

    def judge(self, items: Sequence[Example], records: Sequence[dict[str, Any]]) -> list[float]:
        """0 or 1 an item."""
        return [float(record["exact"]) for record in records]

    def said(self, item: Example | None, record: dict[str, Any]) -> str:
        """The answer where it was said word for word; what else was said is not known."""
        if record["exact"]:
            return item.answer if item else "the answer, word for word"
        return "something else"


CARD = Card(
    kind="measure",
    build=Cloze,
    source="exact match under greedy decoding",
    summary="greedy decoding says the answer word for word",
    family="knowledge",
    access="none",
    direction="gives",
)
