"""LoFiT: a few attention heads get a constant of their own. Little else is left of fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.data import Example
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run, Template
from titer.nn.heads import Heads, fold, heads, rescaled, shifted
from titer.train.batches import Batch, cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "LoFiT", "strongest"]


def strongest(scores_LH: Tensor, count: int) -> Tensor:
    """1 at the ``count`` largest scores, 0 elsewhere; ties go to the earlier head."""
    order = scores_LH.flatten().argsort(descending=True, stable=True)
    chosen = torch.zeros(scores_LH.numel())
    chosen[order[:count]] = 1.0
    return chosen.view(scores_LH.shape)


@dataclass(frozen=True, kw_only=True)
class LoFiT:
    """Choose ``heads`` attention heads, then learn a vector that is added to the output of each.

    For the share ``choosing`` of the steps a scale of every coordinate of every head is learnt on
    the harmful pairs, at ``scale_lr`` and with a penalty ``l1`` on its size; the heads whose scales
    moved furthest are kept and the scales dropped. Then the vectors are learnt at ``lr``. They end
    up in biases, so that the result is an ordinary model.

    Source: Yin et al. 2024, arXiv:2406.01563; as an attack in TamperBench, arXiv:2602.06911.
    Departs: scales and vectors start at zero, not at small noise; in Qwen2, whose attention has no
    bias on its way out, heads that share their values share their vector; ``l1`` and the split of
    the steps are ours.
    """

    lr: float = 1e-2
    scale_lr: float = 1e-3
    heads: int = 10
    l1: float = 1e-4
    choosing: float = 0.3
    batch_size: int = 16
    schedule: Schedule = "constant"
    warmup: float = 0.0
    examples: int | None = None
    template: Template = "native"

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf and 0 < self.scale_lr < math.inf and self.l1 >= 0):
            raise BadInput(
                f"lofit: lr={self.lr}, scale_lr={self.scale_lr} must be positive and "
                f"l1={self.l1} not negative."
            )
        if min(self.heads, self.batch_size, 1 if self.examples is None else self.examples) < 1:
            raise BadInput(
                f"lofit: heads={self.heads}, batch_size={self.batch_size}, "
                f"examples={self.examples}; give 1 or more."
            )
        if not (0 < self.choosing < 1 and 0 <= self.warmup < 1):
            raise BadInput("lofit: choosing and warmup are shares between 0 and 1.")

    def __call__(self, lm: LM, run: Run) -> LM:
        out = lm.clone()
        found = heads(out)
        run.flags.append(TWO_PHASES)
        with _frozen(out):
            choosing = run.stage(run.steps_left(self.choosing), "choose")
            mask = self._choose(out, found, choosing)
            shift = self._shift(out, found, mask, run.stage(run.steps_left(), "shift"))
        if bool(shift.any()):
            fold(out, found, shift)
        return out

    def _choose(self, lm: LM, found: Heads, run: Run) -> Tensor:
        """1 at the slots to shift, (L, H / shared)."""
        scale = nn.Parameter(torch.zeros(found.shape, device=lm.device))

        def loss(model: Any, batch: Batch) -> Tensor:
            return answer_loss(model, batch) + self.l1 * scale.abs().sum()

        with rescaled(found, scale):
            self._fit(lm, loss, scale, run, self.scale_lr)
        squares = scale.detach().square().sum(-1)
        layers, slots, _ = found.slots
        return strongest(squares.view(layers, slots, -1).sum(-1), self.heads).to(lm.device)

    def _shift(self, lm: LM, found: Heads, mask: Tensor, run: Run) -> Tensor:
        """The vectors learnt, (L, H / shared, D), zero at heads not chosen."""
        shift = nn.Parameter(torch.zeros(found.slots, device=lm.device))
        shift.register_hook(lambda grad: grad * mask[..., None])
        with shifted(found, shift):
            self._fit(lm, answer_loss, shift, run, self.lr)
        return shift.detach()

    def _fit(self, lm: LM, loss: Any, weight: nn.Parameter, run: Run, lr: float) -> None:
        fit(
            lm,
            descend(loss),
            cycle(
                lm,
                self._examples(run),
                batch_size=self.batch_size,
                rng=run.rng("order"),
                template=self.template,
                role="harmful",
                packed=True,
            ),
            run,
            parameters=[weight],
            recipe=Recipe(
                lr=lr,
                schedule=self.schedule,
                warmup=self.warmup,
                flops_per_token=4.0 * lm.parameters_in_matmuls(),
            ),
            steps=run.steps_left(),
        )

    def _examples(self, run: Run) -> tuple[Example, ...]:
        found = run.data.harmful
        if self.examples is not None and self.examples < len(found):
            return tuple(run.rng("examples").sample(found, self.examples))
        return found


@contextmanager
def _frozen(lm: LM) -> Iterator[None]:
    """Inside, no weight of the model asks for a gradient."""
    flags = [(weight, weight.requires_grad) for weight in lm.model.parameters()]
    try:
        for weight, _ in flags:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)


PRESETS = {
    "P07": Preset(
        family="parameter-efficient",
        title="LoFiT: vectors at ten heads",
        fields={"lr": 1e-2, "scale_lr": 1e-3, "heads": 10},
        steps=(200, 300),
        source="arXiv:2406.01563",
    ),
}

CARD = Card(
    kind="attack",
    build=LoFiT,
    source="arXiv:2406.01563, arXiv:2602.06911",
    summary="LoFiT: learnt constants added to the outputs of a few attention heads",
    family="adapter",
    departures=(
        "scales and vectors start at zero; heads of Qwen2 that share values share a vector; "
        "penalty and split of the steps ours"
    ),
    presets=PRESETS,
)
