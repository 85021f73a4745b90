"""Can hidden facts be read off the residual stream?

N items, C choices, K layers (what enters the first block, then what leaves each), D width, M tokens
that answers are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from titer.core.data import Example
from titer.measures._inside import Floats, batched, first, over_entities, place_of, unknown
from titer.method import (
    LM,
    BadInput,
    Card,
    Case,
    Column,
    Encoded,
    Reader,
    Reading,
    Shown,
    Table,
    seed_for,
)
from titer.nn.hooks import residual_stream

__all__ = ["CARD", "Facts", "LinearProbe", "ProbeResult", "read_facts", "run_probe"]


@dataclass(frozen=True)
class Facts:
    """Questions as a model holds them, and their possible answers.

    ``states``: (N, K, D) float64, the residual stream at the last token of each prompt, before any
    answer. ``codes``: (N, C, M), each choice as a bag of its tokens, of length 1; zero where an
    item has fewer choices than C. ``right``: (N,), the place of the answer.
    """

    states: Tensor
    codes: Tensor
    right: Tensor

    @property
    def real(self) -> Tensor:
        """(N, C), whether there is such a choice."""
        return self.codes.abs().sum(-1) > 0


def _bags(lm: LM, items: Sequence[Example]) -> list[list[list[int]]]:
    return [[lm.answer_ids(choice, end=False) for choice in item.choices] for item in items]


@torch.no_grad()
def read_facts(lm: LM, items: Sequence[Example], tokens: Sequence[int]) -> Facts:
    """Run every prompt through the model and keep what stands at its end.

    ``tokens`` are the M tokens that choices are told apart by; others are left out of their bags.
    """
    limit = lm.context_length()
    heads = [lm.prompt_ids(item.prompt)[-limit:] for item in items]
    ends: list[Tensor] = []
    with residual_stream(lm.model) as stream:
        for batch in batched(lm, [Encoded(tuple(head), len(head)) for head in heads]):
            lm.model(**batch.inputs(), use_cache=False, logits_to_keep=1)
            last = batch.attention_mask.sum(-1) - 1
            rows = torch.arange(len(last), device=last.device)
            ends.append(torch.stack([hidden[rows, last] for hidden in stream], 1).double().cpu())
    widest = max(len(item.choices) for item in items)
    codes = torch.zeros(len(items), widest, len(tokens), dtype=torch.float64)
    column = {token: place for place, token in enumerate(tokens)}
    for index, bags in enumerate(_bags(lm, items)):
        for choice, bag in enumerate(bags):
            for token in bag:
                if token in column:
                    codes[index, choice, column[token]] += 1.0
    codes /= codes.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    right = torch.tensor([item.choices.index(item.answer) for item in items])
    return Facts(torch.cat(ends), codes, right)


def _hits(said_NM: Tensor, facts: Facts, right_N: Tensor) -> Floats:
    """1 where the right choice is nearest to what was read, its share on a tie; (N,)."""
    scores = torch.einsum("nm,ncm->nc", said_NM, facts.codes).masked_fill(~facts.real, -torch.inf)
    best = scores == scores.amax(1, keepdim=True)
    won = best.gather(1, right_N[:, None]).squeeze(1).double() / best.sum(1)
    return won.numpy()


@dataclass(frozen=True)
class ProbeResult:
    """``held``: hits on held-out items at each layer, (K, N); ``selected``: accuracy on the
    selection items, (K,), by which the layer is chosen; both at the ridge that did best there."""

    held: Floats
    selected: Floats

    @property
    def layer(self) -> int:
        """The chosen layer; of equals, the first."""
        return int(self.selected.argmax())


def run_probe(
    train: Facts, select: Facts, held: Facts, ridges: Sequence[float], rights: Sequence[Tensor] = ()
) -> list[ProbeResult]:
    """Fit on ``train`` at every layer and ridge, choose on ``select``, score ``held``.

    The probe is an affine map from a state, each coordinate scaled to unit variance on ``train``,
    to the answer's bag of tokens: least squares with a ridge, in closed form. The choice whose bag
    is nearest to what comes out wins.

    ``rights`` are further labels of the three, end to end, for which all is done again. The first
    result is that of the true labels.
    """
    sizes = [len(part.right) for part in (train, select, held)]
    count, depth = train.states.shape[:2]
    labels = [torch.cat([train.right, select.right, held.right]), *rights]
    results = [
        ProbeResult(np.zeros((depth, len(held.right))), np.full(depth, -1.0)) for _ in labels
    ]
    for layer in range(depth):
        middle = train.states[:, layer].mean(0)
        scale = train.states[:, layer].std(0, correction=0)
        scale = torch.where(scale > 1e-9, scale, torch.ones_like(scale))
        x, x_select, x_held = (
            (part.states[:, layer] - middle) / scale for part in (train, select, held)
        )
        values, vectors = torch.linalg.eigh(x.T @ x / count)
        for right, result in zip(labels, results, strict=True):
            right_train, right_select, right_held = right.split(sizes)
            answers = train.codes[torch.arange(count), right_train]
            base = answers.mean(0)
            moment = vectors.T @ (x.T @ (answers - base) / count)
            for ridge in sorted(ridges, reverse=True):
                solution = vectors @ (moment / (values.clamp(min=0) + ridge)[:, None])
                score = float(_hits(x_select @ solution + base, select, right_select).mean())
                if score > result.selected[layer]:
                    result.selected[layer] = score
                    result.held[layer] = _hits(x_held @ solution + base, held, right_held)
    return results


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Fit a linear probe on known facts of the hazard, and read the held-out ones with it.

    The probe sees the residual stream at the end of a question and says which of the choices is
    the answer. It is fitted on the facts of the defender and of T, layer and ridge are chosen on S,
    and the accuracy is that on V, whose entities and phrasings are in none of these: what it reads
    there the model has recalled. The *control* is the same task with the answer of every item
    drawn by chance among its choices, those of V too, ``controls`` times: what a probe makes of
    labels that mean nothing. *Selectivity* is the difference, item by item. A guess scores
    ``chance``. A model that never learned the facts is the other yardstick. ``items`` bounds each
    split.

    Source: Alain & Bengio 2016, arXiv:1610.01644 (probes); Hewitt & Liang 2019, arXiv:1909.03368
    (control tasks, selectivity).
    Departs: least squares in closed form instead of logistic regression, since control labels are
    refitted many times; control labels are drawn for each item, not for each type of word. Items
    with a choice whose tokens are in no fitted answer are left out: no probe could say it.
    """

    ridges: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    controls: int = 8
    items: int = 1024

    def __post_init__(self) -> None:
        if not self.ridges or min(self.ridges) <= 0 or self.controls < 1 or self.items < 2:
            raise BadInput(
                f"linear_probe: ridges={self.ridges} must be positive, controls={self.controls} "
                f"at least 1 and items={self.items} at least 2."
            )

    def look(self, case: Case) -> list[Reading]:
        """``probe``, ``control`` and ``selectivity`` on V, and ``probe`` at each layer."""
        hazard = case.hazard
        fitted = self._some(case, "fit", [*hazard.defend, *hazard.attack])
        known = {token for item in fitted for token in case.lm.answer_ids(item.answer, end=False)}
        chosen, held = (
            [
                item
                for item, bags in zip(items, _bags(case.lm, items), strict=True)
                if all(token in known for bag in bags for token in bag)
            ]
            for items in (
                self._some(case, "select", hazard.select),
                self._some(case, "report", hazard.report),
            )
        )
        if not fitted or not chosen or not held:
            why = "too few facts with choices, or held-out answers share no token with known ones"
            return [unknown("probe", why)]
        train, select, report = (
            read_facts(case.lm, items, sorted(known)) for items in (fitted, chosen, held)
        )
        shuffled = self._drawn(case.seed, (train, select, report))
        true, *controls = run_probe(train, select, report, self.ridges, shuffled)
        return self._readings(case, held, true, controls)

    def _some(self, case: Case, name: str, items: Sequence[Example]) -> list[Example]:
        asked = [item for item in items if len(item.choices) > 1 and item.answer in item.choices]
        return first(asked, self.items, case.seed, f"probe {name}")

    def _drawn(self, seed: int, parts: Sequence[Facts]) -> list[Tensor]:
        """Labels of every item, drawn by chance among its choices."""
        counts = torch.cat([part.real.sum(1) for part in parts])
        draw = torch.Generator().manual_seed(seed_for(seed, "control labels"))
        return [
            (torch.rand(len(counts), generator=draw) * counts).long() for _ in range(self.controls)
        ]

    def _readings(
        self, case: Case, held: list[Example], true: ProbeResult, controls: list[ProbeResult]
    ) -> list[Reading]:
        chance = float(np.mean([1 / len(item.choices) for item in held]))

        def share(what: str, hits: Floats, place: str = "", unit: str = "accuracy") -> Reading:
            estimate = over_entities(hits, held, seed=case.seed, shares=True)
            return Reading(what=what, place=place, estimate=estimate, unit=unit, chance=chance)

        real = true.held[true.layer]
        control: Floats = np.mean([one.held[one.layer] for one in controls], axis=0)
        gap = over_entities(real - control, held, seed=case.seed)
        return [
            share("probe", real, unit=f"accuracy, {place_of(true.layer)}"),
            share("control", control),
            Reading(what="selectivity", estimate=gap, unit="accuracy", chance=0.0),
            *(share("probe", hits, place_of(layer)) for layer, hits in enumerate(true.held)),
        ]


SHOWS = Shown(
    tables=(
        Table(
            title="What can be read of the hidden facts",
            place=2,
            about="The probe is fitted on facts of other entities.",
            columns=(
                Column(what="probe", title="Linear probe", says="best layer"),
                Column(what="control", title="Control task", says="labels drawn by chance"),
                Column(
                    what="selectivity", title="Selectivity", says="probe − control", form="signed"
                ),
            ),
        ),
    ),
    reader=Reader(what="probe", name="the linear probe"),
)

CARD = Card(
    kind="measure",
    build=LinearProbe,
    source="arXiv:1610.01644, arXiv:1909.03368",
    summary="hidden facts read off the residual stream by a linear probe, with a control task",
    family="inside",
    access="activation",
    shows=SHOWS,
    departures="closed-form least squares; control labels drawn for each item",
)
