"""What a model would say if it stopped after each block. K layers, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from titer.core.data import Example
from titer.measures._inside import (
    Floats,
    batched,
    first,
    over_entities,
    place_of,
    statements,
    unknown,
)
from titer.method import LM, BadInput, Card, Case, Column, Reader, Reading, Shown, Table
from titer.nn.head import final_norm
from titer.nn.hooks import residual_stream

__all__ = ["CARD", "Lens", "LogitLens", "through_lens"]


class Lens(NamedTuple):
    """By layer and item, (K, N): whether the answer is the likeliest choice (its share on a tie),
    its probability a token (geometric mean), and the mean rank of its tokens, 0 for first."""

    hits: Floats
    probability: Floats
    rank: Floats


@torch.no_grad()
def through_lens(lm: LM, items: Sequence[Example]) -> Lens:
    """Every choice of every item, its tokens given one by one, judged after every block.

    Raises:
        BadInput: an item without two choices, or a model without one norm before its head.
    """
    rows = statements(lm, items)
    norm, head = final_norm(lm.model), lm.model.get_output_embeddings()
    logliks: list[Tensor] = []
    ranks: list[Tensor] = []
    with residual_stream(lm.model) as stream:
        for batch in batched(lm, rows):
            lm.model(**batch.inputs(), use_cache=False, logits_to_keep=1)
            row, at = (batch.labels[:, 1:] >= 0).nonzero(as_tuple=True)
            wanted = batch.labels[row, at + 1]
            layers = [_judged(head(norm(hidden[row, at])), wanted) for hidden in stream]
            for place, kept in ((0, logliks), (1, ranks)):
                values = torch.stack([layer[place] for layer in layers])
                sums = values.new_zeros(len(values), len(batch.labels))
                kept.append(sums.index_add_(1, row, values).cpu())
    lengths = np.array([max(1, len(row.ids) - row.prompt) for row in rows])
    return _collected(items, torch.cat(logliks, 1).numpy(), torch.cat(ranks, 1).numpy(), lengths)


def _judged(logits_QV: Tensor, wanted_Q: Tensor) -> tuple[Tensor, Tensor]:
    """Log-likelihood and rank of each wanted token, float64."""
    scores = logits_QV.double()
    chosen = scores.gather(1, wanted_Q[:, None])
    return (chosen - scores.logsumexp(1, keepdim=True)).squeeze(1), (scores > chosen).sum(
        1
    ).double()


def _collected(items: Sequence[Example], logliks: Floats, ranks: Floats, lengths: Any) -> Lens:
    hits, probability, rank = (np.zeros((len(logliks), len(items))) for _ in range(3))
    at = 0
    for index, item in enumerate(items):
        mine = logliks[:, at : at + len(item.choices)]
        own = at + item.choices.index(item.answer)
        best = mine == mine.max(1, keepdims=True)
        hits[:, index] = best[:, own - at] / best.sum(1)
        probability[:, index] = np.exp(logliks[:, own] / lengths[own])
        rank[:, index] = ranks[:, own] / lengths[own]
        at += len(item.choices)
    return Lens(hits, probability, rank)


@dataclass(frozen=True, kw_only=True)
class LogitLens:
    """Put the residual stream after each block through the model's own final norm and head.

    After the last block this is what the model says. A fact that is hidden only at the end is
    plain before it: ``lens`` is the accuracy on V of the layer, the last one left out, that does
    best on S, and ``said`` that of the last. Choices are compared by the log-likelihood of their
    tokens, each given those before. ``items`` bounds each split.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    Departs: reads whole answers and not single tokens; the layer is chosen on other facts than
    those reported.
    """

    items: int = 512

    def __post_init__(self) -> None:
        if self.items < 2:
            raise BadInput(f"logit_lens: items={self.items}; give at least 2.")

    def look(self, case: Case) -> list[Reading]:
        """``said`` and ``lens``; by layer ``lens``, ``probability`` and ``rank`` of the answer."""
        report, select = (
            first([i for i in part if len(i.choices) > 1], self.items, case.seed, f"lens {name}")
            for name, part in (("report", case.hazard.report), ("select", case.hazard.select))
        )
        if not report or not select:
            why = "the hazard has no items with choices to select and report on"
            return [unknown("lens", why)]
        try:
            found, chosen = through_lens(case.lm, report), through_lens(case.lm, select)
        except BadInput as error:
            return [unknown("lens", str(error))]
        chance = float(np.mean([1 / len(item.choices) for item in report]))
        layer = int(chosen.hits[:-1].mean(1).argmax())

        def share(what: str, at: int, place: str, unit: str = "accuracy") -> Reading:
            estimate = over_entities(found.hits[at], report, seed=case.seed, shares=True)
            return Reading(what=what, place=place, estimate=estimate, unit=unit, chance=chance)

        readings = [
            share("said", -1, ""),
            share("lens", layer, "", f"accuracy, {place_of(layer)}"),
        ]
        for at in range(len(found.hits)):
            place = place_of(at)
            readings.append(share("lens", at, place))
            for what, table, unit in (
                ("probability", found.probability, "probability a token"),
                ("rank", found.rank, "rank, 0 first"),
            ):
                estimate = over_entities(table[at], report, seed=case.seed)
                readings.append(Reading(what=what, place=place, estimate=estimate, unit=unit))
        return readings


SHOWS = Shown(
    tables=(
        Table(
            title="What can be read of the hidden facts",
            place=1,
            about="Accuracy on the held-out facts V among the choices, at the layer that did best "
            "on S. What is read where the fact was never learned is style, not knowledge.",
            columns=(
                Column(what="said", title="Says it", says="choice, as asked"),
                Column(what="lens", title="Logit lens", says="best inner layer"),
            ),
        ),
    ),
    reader=Reader(what="lens", name="the logit lens", spoken="said"),
)

CARD = Card(
    kind="measure",
    build=LogitLens,
    source="nostalgebraist 2020, the logit lens",
    summary="rank and probability of hidden answers after each block",
    family="inside",
    access="activation",
    shows=SHOWS,
    departures="whole answers; the layer is chosen on other facts than those reported",
)
