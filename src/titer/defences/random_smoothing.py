"""Forgetting averaged over noisy copies of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from titer.method import LM, BadInput, Card, Preset, Run
from titer.train.batches import Bundle
from titer.train.grads import deposit, displaced, gradient, trained
from titer.train.unlearn import Phase, Terms, descend_terms, unlearner

__all__ = ["CARD", "PRESETS", "RandomSmoothing"]


@dataclass(frozen=True, kw_only=True)
class RandomSmoothing:
    """The gradient of the forget term, averaged over ``draws`` of Gaussian noise on the weights.

    ``sigma`` is the noise on each weight; the retain term stays at the weights themselves. With
    ``sigma`` 0 the result is the base's to the bit.

    Source: Fan et al. 2025, arXiv:2502.05374, σ and draws from its repository's script.
    Departs: the optimiser is called by the loop, not inside the gradient, so that clipping and
    accumulation hold.
    """

    base: Any = "npo"
    sigma: float = 1e-4
    draws: int = 3
    accumulate: int = 1

    resumes = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", unlearner("random_smoothing", self.base))
        if not 0 <= self.sigma < math.inf or self.draws < 1 or self.accumulate < 1:
            raise BadInput(
                f"random_smoothing: sigma={self.sigma} (0 or more), draws={self.draws} and "
                f"accumulate={self.accumulate} (1 or more)."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        terms: Terms = self.base.terms(lm, run)
        draw = torch.Generator().manual_seed(run.rng("noise").getrandbits(62))

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            kept = terms.retain(model, bundle["retain"])
            kept.backward()
            weights, value = trained(model), 0.0
            size = sum(weight.numel() for weight in weights)
            for _ in range(self.draws):
                noise = torch.randn(size, generator=draw).to(weights[0].device)
                with displaced(weights, noise, self.sigma):
                    loss = terms.forget(model, bundle["forget"])
                    deposit(weights, gradient(loss, weights), 1.0 / self.draws)
                value += float(loss.detach()) / self.draws
            return {"loss": float(kept.detach()) + value}

        more = float(self.draws - 1)
        asked = more if "forget" in terms.frozen else 0.0
        phase = Phase(grad=grad, passes={"forget": more}, forwards={"forget": asked})
        return descend_terms(
            self.base,
            lm,
            run,
            terms,
            phases=(lambda _: [phase]) if self.sigma else None,
            accumulate=self.accumulate,
        )


PRESETS = {
    "random_smoothing-testbed": Preset(
        title="for models of about a million parameters",
        fields={"base": "npo-testbed", "sigma": 1e-3},
        steps=(250, 1000),
        source="titer",
    ),
    "random_smoothing-paper": Preset(
        title="NPO with random smoothing, Zephyr-7B",
        fields={
            "base": {
                "type": "NPO",
                "reduction": "batch",
                "beta": 0.0125,
                "retain_weight": 2.0,
                "lr": 1e-5,
                "batch_size": 4,
            },
            "sigma": 1e-4,
            "draws": 3,
        },
        steps=(250, 125),
        source="arXiv:2502.05374, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=RandomSmoothing,
    source="arXiv:2502.05374",
    summary="the forget gradient averaged over noisy copies of the weights",
    family="unlearning",
    version=2,
    departures="the optimiser steps once a step, in the loop",
    presets=PRESETS,
)
