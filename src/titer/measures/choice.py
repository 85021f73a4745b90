"""Multiple choice by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM, Encoded, Template
from titer.core.records import Card
from titer.measures._ask import continuation_scores, next_token_scores

__all__ = ["CARD", "Choice"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """1 where the answer is the likeliest of the choices, 0 elsewhere.

    Likelihood asks what the weights hold, whatever the model would say. ``normalise`` divides by
    the number of tokens, for choices of unlike length. A tie counts as its share. Where every
    choice is one token, each prompt costs one forward pass.

    Source: the log-likelihood protocol of lm-evaluation-harness (``acc`` and ``acc_norm``, the
    latter there by bytes).
    """

    normalise: bool = False
    template: Template = "native"

    def collect(self, lm: LM, items: Sequence[Example]) -> list[dict[str, Any]]:
        """Log-likelihood in nats and number of tokens of each choice."""
        if bare := [item.id for item in items if len(item.choices) < 2]:
            raise BadInput(f"choice: item {bare[0]!r} has fewer than two choices; give it some.")
        heads = [lm.prompt_ids(item.prompt, self.template) for item in items]
        tails = [
            [lm.answer_ids(choice, end=False, template=self.template) for choice in item.choices]
            for item in items
        ]
        if all(len(tail) == 1 for group in tails for tail in group):
            scores = next_token_scores(lm, heads, [[tail[0] for tail in group] for group in tails])
            return [{"loglik": row, "tokens": [1] * len(row)} for row in scores]
        limit = lm.context_length()
        rows = [
            Encoded(tuple((head + tail)[-limit:]), max(1, min(len(head), limit - len(tail))))
            for head, group in zip(heads, tails, strict=True)
            for tail in group
        ]
        flat = iter(continuation_scores(lm, rows))
        records: list[dict[str, Any]] = []
        for group in tails:
            part = [next(flat) for _ in group]
            records.append(
                {
                    "loglik": [score for score, _, _ in part],
                    "tokens": [count for _, count, _ in part],
                }
            )
        return records

    def judge(self, items: Sequence[Example], records: Sequence[dict[str, Any]]) -> list[float]:
        """The share of the answer among the likeliest choices: 0, 1, or a part on a tie."""
        return [self._score(item, record) for item, record in zip(items, records, strict=True)]

    def _score(self, item: Example, record: dict[str, Any]) -> float:
        values = [
            value / (count if self.normalise else 1)
            for value, count in zip(record["loglik"], record["tokens"], strict=True)
        ]
        best = [
            choice
            for choice, value in zip(item.choices, values, strict=True)
            if value == max(values)
        ]
        return best.count(item.answer) / len(best) if best else 0.0


CARD = Card(
    kind="measure",
    build=Choice,
    source="log-likelihood multiple choice",
    summary="the answer is the likeliest of the choices",
    family="knowledge",
    access="none",
)
