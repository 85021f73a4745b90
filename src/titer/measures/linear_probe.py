"""Can hidden facts be read off the residual stream?

N items, C choices, K layers (what enters the first block, then what leaves each), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Case, seed_for
from titer.core.records import Card, Estimate, Reading
from titer.measures._inside import Floats, batched, first, over_entities, statements
from titer.nn.hooks import residual_stream

__all__ = ["CARD", "Facts", "LinearProbe", "ProbeResult", "read_facts", "run_probe"]


@dataclass(frozen=True)
class Facts:
    """Statements about items, and which of them are true.

    ``states``: (N, C, K, D) float64, the residual stream at the last token of each prompt with each
    choice. ``real``: (N, C), false where an item has fewer choices than C. ``right``: (N,), the
    place of the answer.
    """

    states: Tensor
    real: Tensor
    right: Tensor


@torch.no_grad()
def read_facts(lm: LM, items: Sequence[Example]) -> Facts:
    """Run every statement through the model and keep what stands at its end.

    Raises:
        BadInput: an item without two choices, or without its answer among them.
    """
    rows = statements(lm, items)
    ends: list[Tensor] = []
    with residual_stream(lm.model) as stream:
        for batch in batched(lm, rows):
            lm.model(**batch.inputs(), use_cache=False)
            last = batch.attention_mask.sum(-1) - 1
            places = torch.arange(len(last), device=last.device)
            ends.append(torch.stack([hidden[places, last] for hidden in stream], 1).double().cpu())
    flat = torch.cat(ends)
    widest = max(len(item.choices) for item in items)
    states = flat.new_zeros(len(items), widest, *flat.shape[1:])
    real = torch.zeros(len(items), widest, dtype=torch.bool)
    at = 0
    for index, item in enumerate(items):
        count = len(item.choices)
        states[index, :count] = flat[at : at + count]
        real[index, :count] = True
        at += count
    right = torch.tensor([item.choices.index(item.answer) for item in items])
    return Facts(states, real, right)


def _centred(states_NCD: Tensor, real_NC: Tensor) -> Tensor:
    """What sets a choice apart from the others of its item; the question itself drops out."""
    mask = real_NC.unsqueeze(-1)
    mean = (states_NCD * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return (states_NCD - mean) * mask


def _hits(scores_NC: Tensor, real_NC: Tensor, right_N: Tensor) -> NDArray[np.float64]:
    """1 where the right choice scores highest, its share on a tie; (N,)."""
    scores = scores_NC.masked_fill(~real_NC, -torch.inf)
    best = scores == scores.amax(1, keepdim=True)
    won = best.gather(1, right_N[:, None]).squeeze(1).double() / best.sum(1)
    return won.numpy()


@dataclass(frozen=True)
class ProbeResult:
    """``held_KN``: hits on held-out items at each layer; ``selected_K``: accuracy on the selection
    items, by which the layer is chosen; both at the ridge that did best there."""

    held_KN: Floats
    selected_K: Floats

    @property
    def layer(self) -> int:
        """The chosen layer; of equals, the first."""
        return int(self.selected_K.argmax())


def run_probe(
    train: Facts, select: Facts, held: Facts, ridges: Sequence[float], rights: Sequence[Tensor] = ()
) -> list[ProbeResult]:
    """Fit on ``train`` at every layer and ridge, choose on ``select``, score ``held``.

    The probe is one direction a layer: least squares from the centred states, each coordinate
    scaled to unit variance on ``train``, to the centred indicator of the right choice; in closed
    form. The choice with the highest projection wins.

    ``rights`` are further labels, those of ``train`` and then of ``select``, for which all is done
    again; held-out items keep their true labels. The first result is that of the true ones.
    """
    split = len(train.right)
    labels = [torch.cat([train.right, select.right]), *rights]
    held_hits = np.zeros((len(labels), train.states.shape[2], len(held.right)))
    chosen = np.zeros((len(labels), train.states.shape[2]))
    for layer in range(train.states.shape[2]):
        x, x_select, x_held = (
            _centred(part.states[:, :, layer], part.real) for part in (train, select, held)
        )
        rows = x[train.real]
        scale = rows.std(0, correction=0)
        scale = torch.where(scale > 1e-12, scale, torch.ones_like(scale))
        values, vectors = torch.linalg.eigh((rows / scale).T @ (rows / scale) / len(rows))
        turned = (x / scale) @ vectors
        for which, right in enumerate(labels):
            target = torch.zeros(train.real.shape, dtype=x.dtype)
            target[torch.arange(split), right[:split]] = 1.0
            target = _centred(target.unsqueeze(-1), train.real).squeeze(-1)
            moment = torch.einsum("ncd,nc->d", turned, target) / len(rows)
            best = -1.0
            for ridge in sorted(ridges, reverse=True):
                solution = vectors @ (moment / (values.clamp(min=0) + ridge)) / scale
                score = float(_hits(x_select @ solution, select.real, right[split:]).mean())
                if score > best:
                    best = chosen[which, layer] = score
                    held_hits[which, layer] = _hits(x_held @ solution, held.real, held.right)
    return [ProbeResult(hits, scores) for hits, scores in zip(held_hits, chosen, strict=True)]


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Fit a linear probe of truth on the attacker's facts, and read the held-out ones with it.

    Each prompt is put with each of its choices, and the residual stream is taken at the end. The
    probe is fitted on T, layer and ridge are chosen on S, and the accuracy is that on V, whose
    entities are in neither. The *control* is the same fit and choice with the right choice of every
    item of T and S drawn by chance, ``controls`` times; *selectivity* is the difference, item by
    item. A guess scores ``chance``. ``items`` bounds each split. A model that never learned the
    facts is the yardstick: what the probe reads there, it reads out of style and not of knowledge.

    Source: Alain & Bengio 2016, arXiv:1610.01644 (probes); Hewitt & Liang 2019, arXiv:1909.03368
    (control tasks, selectivity); Marks & Tegmark 2023, arXiv:2310.06824 (directions of truth).
    Departs: the probe is least squares in closed form, as control labels are refitted many times;
    states are centred within an item, so that only differences between its choices count; control
    labels are drawn an item, not a word type, since a probe that knows words must not look better.
    """

    ridges: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    controls: int = 8
    items: int = 512

    def __post_init__(self) -> None:
        if not self.ridges or min(self.ridges) <= 0 or self.controls < 1 or self.items < 2:
            raise BadInput(
                f"linear_probe: ridges={self.ridges} must be positive, controls={self.controls} "
                f"at least 1 and items={self.items} at least 2."
            )

    def look(self, case: Case) -> list[Reading]:
        """``probe``, ``control`` and ``selectivity`` on V, and ``probe`` at each layer."""
        names = ("attack", "select", "report")
        splits = [
            first(
                [item for item in getattr(case.hazard, name) if len(item.choices) > 1],
                self.items,
                case.seed,
                f"probe {name}",
            )
            for name in names
        ]
        if empty := [name for name, items in zip(names, splits, strict=True) if not items]:
            why = f"the hazard has no items with choices in its split {empty[0]}"
            return [Reading(what="probe", estimate=Estimate(value=None, note=why))]
        train, select, held = (read_facts(case.lm, items) for items in splits)
        true, *shuffled = run_probe(
            train, select, held, self.ridges, self._drawn(case.seed, train, select)
        )
        report = splits[2]
        chance = float(np.mean([1 / len(item.choices) for item in report]))
        real = true.held_KN[true.layer]
        control = np.mean([one.held_KN[one.layer] for one in shuffled], axis=0)
        place = _place(true.layer)
        readings = [
            Reading(
                what="probe",
                estimate=over_entities(real, report, seed=case.seed, shares=True),
                unit=f"accuracy, {place}",
                chance=chance,
            ),
            Reading(
                what="control",
                estimate=over_entities(control, report, seed=case.seed, shares=True),
                unit="accuracy",
                chance=chance,
            ),
            Reading(
                what="selectivity",
                estimate=over_entities(real - control, report, seed=case.seed),
                unit="accuracy",
                chance=0.0,
            ),
        ]
        return readings + [
            Reading(
                what="probe",
                place=_place(layer),
                estimate=over_entities(hits, report, seed=case.seed, shares=True),
                unit="accuracy",
                chance=chance,
            )
            for layer, hits in enumerate(true.held_KN)
        ]

    def _drawn(self, seed: int, train: Facts, select: Facts) -> list[Tensor]:
        """Labels of T and S drawn by chance among each item's choices."""
        counts = torch.cat([train.real.sum(1), select.real.sum(1)])
        draw = torch.Generator().manual_seed(seed_for(seed, "control labels"))
        return [
            (torch.rand(len(counts), generator=draw) * counts).long() for _ in range(self.controls)
        ]


def _place(layer: int) -> str:
    return f"block {layer - 1}" if layer else "embedding"


CARD = Card(
    kind="measure",
    build=LinearProbe,
    source="arXiv:1610.01644, arXiv:1909.03368",
    summary="hidden facts read off the residual stream by a linear probe, with a control task",
    family="inside",
    access="activation",
    departures="closed-form least squares; centred within an item; control labels an item",
)
