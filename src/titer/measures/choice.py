"""Multiple choice by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from titer.core.data import Example
from titer.measures._ask import answer_scores, cut
from titer.method import LM, BadInput, Card, Encoded, Template

__all__ = ["CARD", "Choice"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """1 where the answer is the likeliest of the choices, 0 elsewhere.

    Likelihood asks what the weights hold, whatever the model would say. ``normalise`` divides by
    the number of tokens, for choices of unlike length. A tie counts as its share. A prompt is run
    once for all its choices.

    Source: the log-likelihood protocol of lm-evaluation-harness (``acc`` and ``acc_norm``, the
    latter there by bytes).
    """

    normalise: bool = False
    template: Template = "native"

    def collect(self, lm: LM, items: Sequence[Example]) -> list[dict[str, Any]]:
        """Log-likelihood in nats and number of tokens of each choice."""
        return self.collect_each(lm, items, 1)[0]

    def collect_each(
        self, lm: LM, items: Sequence[Example], copies: int
    ) -> list[list[dict[str, Any]]]:
        """The records of each of ``copies`` models that ``lm`` runs side by side."""
        if bare := [item.id for item in items if len(item.choices) < 2]:
            raise BadInput(f"choice: item {bare[0]!r} has fewer than two choices; give it some.")
        limit = lm.context_length()
        rows: list[Encoded] = []
        for item in items:
            head = lm.prompt_ids(item.prompt, self.template)
            for choice in item.choices:
                tail = lm.answer_ids(choice, end=False, template=self.template)
                rows.append(cut(head, tail, limit))
        found: list[list[dict[str, Any]]] = []
        for scores in answer_scores(lm, rows, copies=copies):
            left = iter(scores)
            parts = [list(islice(left, len(item.choices))) for item in items]
            found.append(
                [
                    {"loglik": [s.loglik for s in part], "tokens": [s.tokens for s in part]}
                    for part in parts
                ]
            )
        return found

    def judge(self, items: Sequence[Example], records: Sequence[dict[str, Any]]) -> list[float]:
        """The share of the answer among the likeliest choices: 0, 1, or a part on a tie."""
        return [self._score(item, record) for item, record in zip(items, records, strict=True)]

    def said(self, item: Example | None, record: dict[str, Any]) -> str:
        """The likeliest choice, or several; by number where the item is not known."""
        values = self._values(record)
        choices = item.choices if item else [f"choice {at + 1}" for at in range(len(values))]
        return " or ".join(_likeliest(choices, values))

    def _score(self, item: Example, record: dict[str, Any]) -> float:
        best = _likeliest(item.choices, self._values(record))
        return best.count(item.answer) / len(best) if best else 0.0

    def _values(self, record: dict[str, Any]) -> list[float]:
        return [
            value / (count if self.normalise else 1)
            for value, count in zip(record["loglik"], record["tokens"], strict=True)
        ]


def _likeliest(choices: Sequence[str], values: Sequence[float]) -> list[str]:
    return [choice for choice, value in zip(choices, values, strict=True) if value == max(values)]


CARD = Card(
    kind="measure",
    build=Choice,
    source="log-likelihood multiple choice",
    summary="the answer is the likeliest of the choices",
    family="knowledge",
    access="none",
    direction="gives",
)
