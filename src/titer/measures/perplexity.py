"""Perplexity of given answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from titer.core.data import Example
from titer.measures._ask import answer_scores
from titer.method import LM, Card, Template

__all__ = ["CARD", "Perplexity"]


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """``exp`` of the mean negative log-likelihood of an item's answer per token; at least 1."""

    template: Template = "native"

    def collect(self, lm: LM, items: Sequence[Example]) -> list[dict[str, Any]]:
        """The answer's log-likelihood in nats, and its tokens."""
        return self.collect_each(lm, items, 1)[0]

    def collect_each(
        self, lm: LM, items: Sequence[Example], copies: int
    ) -> list[list[dict[str, Any]]]:
        """The records of each of ``copies`` models that ``lm`` runs side by side."""
        limit = lm.context_length()
        rows = [
            lm.encode(item.prompt, item.answer, template=self.template, limit=limit)
            for item in items
        ]
        return [
            [{"loglik": s.loglik, "tokens": s.tokens} for s in scores]
            for scores in answer_scores(lm, rows, copies=copies)
        ]

    def judge(self, items: Sequence[Example], records: Sequence[dict[str, Any]]) -> list[float]:
        """Perplexity an item; an item whose answer did not fit scores 1 and says nothing."""
        return [
            math.exp(min(700.0, -record["loglik"] / max(1, record["tokens"]))) for record in records
        ]


CARD = Card(
    kind="measure",
    build=Perplexity,
    source="standard",
    summary="perplexity of given answers",
    family="integrity",
    access="none",
)
