"""Circuit breakers: representations of the hazard are rerouted, the others stay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.hooks import blocks
from titer.nn.taps import stream_to
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import single
from titer.train.unlearn import Terms, Training, descend_terms

__all__ = ["CARD", "PRESETS", "CircuitBreakers", "reroute", "strayed"]


def reroute(now_BTD: Tensor, then_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over real tokens of ``relu(cos(now, then))``: 1 where nothing moved, 0 from orthogonal
    on, where the gradient is 0 too."""
    cosine = F.cosine_similarity(single(now_BTD), single(then_BTD), dim=-1)
    return (cosine.relu() * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def strayed(now_BTD: Tensor, then_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over real tokens of ``‖now − then‖₂``, not squared; its gradient at no distance is 0."""
    distance = torch.linalg.vector_norm(single(now_BTD) - single(then_BTD), dim=-1)
    return (distance * mask_BT).sum() / mask_BT.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class CircuitBreakers:
    """After the blocks at ``depths`` (shares of their number) the states of hazardous text become
    orthogonal to what they were; up to the last of these the states of retain text stay.

    At step t of T the first weighs ``push (1 − t/2T)`` and the second ``push t/2T``, times
    ``retain_weight``.

    Source: Zou et al. 2024, arXiv:2406.04313, and its repository, whose rates and layers are
    Llama-3-8B's.
    Departs: blocks after the last of ``depths`` are run through by no batch, where the repository
    cuts them off the model while it trains; no dropout in the adapters. The authors' retain set for
    Llama-3 holds refusals: give them as retain data.
    """

    depths: tuple[float, ...] = (10 / 32, 20 / 32)
    push: float = 10.0
    retain_weight: float = 1.0
    lr: float = 1e-4
    batch_size: int = 16
    weight_decay: float = 0.0
    parameters: Parameters = "lora"
    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self) -> None:
        if not 0 <= self.push < math.inf or not 0 <= self.retain_weight < math.inf:
            raise BadInput(
                f"circuit_breakers: push={self.push} and retain_weight={self.retain_weight} must "
                "not be negative."
            )
        if not self.depths or not all(0 <= depth < 1 for depth in self.depths):
            raise BadInput(
                f"circuit_breakers: depths={self.depths}; give shares from 0 to below 1."
            )
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """States turned away where hazardous, held where not."""
        count = len(blocks(lm.model))
        layers = sorted({int(depth * count) for depth in self.depths})
        last, total, begun = layers[-1], max(1, run.steps_left()), run.spent.steps

        def progress() -> float:
            return (run.spent.steps - begun) / (2.0 * total)

        def both(model: Any, batch: Batch) -> list[tuple[Tensor, Tensor]]:
            with torch.no_grad():
                then = stream_to(lm.model, batch.inputs(), last)
            return list(zip(stream_to(model, batch.inputs(), last), then, strict=True))

        def forget(model: Any, batch: Batch) -> Tensor:
            found = both(model, batch)
            turned = [reroute(*found[layer], batch.attention_mask) for layer in layers]
            return self.push * (1.0 - progress()) * torch.stack(turned).mean()

        def retain(model: Any, batch: Batch) -> Tensor:
            moved = [strayed(now, then, batch.attention_mask) for now, then in both(model, batch)]
            return self.retain_weight * self.push * progress() * torch.stack(moved).mean()

        return Terms(forget=forget, retain=retain, frozen=("forget", "retain"))

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


PRESETS = {
    "circuit_breakers-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-3, "batch_size": 32},
        steps=(150, 1000),
        source="titer",
    ),
    "circuit_breakers-paper": Preset(
        title="Llama-3-8B; Mistral-7B has push 5",
        fields={},
        steps=(150, 150),
        source="arXiv:2406.04313, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=CircuitBreakers,
    source="arXiv:2406.04313",
    summary="states of hazardous text turn orthogonal to what they were, benign ones stay",
    family="representation",
    departures="no adapter dropout. Data: hazard, retain. 2 passes + 2 forwards a step. Claims "
    "resistance to inputs and stability, none to fine-tuning. Known breaker: fine-tuning "
    "(arXiv:2408.00761 finds an attack success of 0.85 after it)",
    presets=PRESETS,
)
