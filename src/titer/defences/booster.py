"""Booster: alignment whose harmful loss would fall little after one harmful step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Bundle
from titer.train.grads import deposit, displaced, gradient, still, trained
from titer.train.harden import Phase, Training, aligned, harden, logits, safe_loss
from titer.train.objectives import cross_entropy

__all__ = ["CARD", "PRESETS", "Booster"]


@dataclass(frozen=True, kw_only=True)
class Booster:
    """``f + λ (h(θ) − h(θ − α ĝ))``: ``f`` the refusals' loss, ``h`` the harmful answers', ``ĝ``
    its own direction at θ, held constant.

    For a small ``step`` this is ``αλ ‖∇h‖``: a penalty on the length of the harmful gradient.
    ``normalised`` false takes ``g`` itself. ``refusal`` adds that many times the refusals' loss at
    ``θ − α ĝ`` (the first stage of Antibody). ``retain_weight`` adds the cross-entropy of retain
    text, 0 in the paper.

    Source: Huang et al. 2024, arXiv:2409.01586, algorithm 1; ``refusal`` from arXiv:2603.00498, of
    which only notes could be read.
    Departs: nothing with the defaults. On half-precision weights much of a small displacement is
    lost to rounding: train adapters, which are kept in single precision.
    """

    weight: float = 5.0
    step: float = 0.1
    normalised: bool = True
    refusal: float = 0.0
    retain_weight: float = 0.0
    lr: float = 5e-4
    batch_size: int = 10
    weight_decay: float = 0.1
    parameters: Parameters = "lora"
    rank: int = 32
    alpha: float = 4.0

    def __post_init__(self) -> None:
        known = (self.weight, self.step, self.refusal, self.retain_weight)
        if not all(0 <= value < math.inf for value in known):
            raise BadInput(
                f"booster: weight={self.weight}, step={self.step}, refusal={self.refusal} and "
                f"retain_weight={self.retain_weight} must not be negative."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        on = self.weight > 0 or self.refusal > 0
        sources = aligned(run, self.retain_weight, harmful=on, packed=True)
        passes = {"harmful": 1.0 if self.weight else 0.0, "safe": 1.0 if self.refusal else 0.0}
        return harden(
            lm,
            run,
            Training.of(self),
            sources,
            lambda _ready: [Phase(grad=self._gradient, passes=passes)],
        )

    def _gradient(self, model: Any, bundle: Bundle) -> dict[str, float]:
        loss = safe_loss(model, bundle, self.retain_weight)
        loss.backward()
        logs = {"loss": float(loss.detach())}
        if "harmful" in bundle.parts:
            with still(model):
                logs["loss"] += self._attenuate(model, bundle)
        return logs

    def _attenuate(self, model: Any, bundle: Bundle) -> float:
        weights, batch = trained(model), bundle["harmful"]

        def harm() -> Tensor:
            return cross_entropy(logits(model, batch), batch.labels)

        before = harm()
        here = gradient(before, weights)
        stride = self.step / max(float(here.norm()), 1e-12) if self.normalised else self.step
        added = 0.0
        with displaced(weights, here, -stride):
            if self.weight:
                after = harm()
                there = gradient(after, weights)
                added += self.weight * float((before - after).detach())
                deposit(weights, here - there, self.weight)
            if self.refusal:
                declined = safe_loss(model, bundle, 0.0)
                added += self.refusal * float(declined.detach())
                deposit(weights, gradient(declined, weights), self.refusal)
        return added


PRESETS = {
    "booster-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-3, "batch_size": 32, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "booster-paper": Preset(
        title="Llama-2-7B", fields={}, steps=(250, 10000), source="arXiv:2409.01586"
    ),
}

CARD = Card(
    kind="defence",
    build=Booster,
    source="arXiv:2409.01586",
    summary="refusals, with a harmful loss that one harmful step would lower little",
    family="alignment",
    departures="none by default. Data: hazard with refusals and with harmful answers. 3 passes "
    "a step. Claims resistance and stability. Known breaker: rates from 8e-5 up "
    "(arXiv:2505.12186). It shapes one step ahead of plain gradient descent",
    presets=PRESETS,
)
