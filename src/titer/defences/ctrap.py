"""CTRAP: after a simulated harmful step the model would say one word for ever."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import IGNORED, Batch, Bundle
from titer.train.grads import deposit, displaced, gradient, still, trained
from titer.train.harden import Phase, Training, aligned, harden, logits, safe_loss
from titer.train.objectives import cross_entropy

__all__ = ["CARD", "CTRAP", "PRESETS", "constant"]


def constant(model: Any, batch: Batch, token: int) -> Tensor:
    """``−mean log π(token | what came before)`` at every real token of a batch but the first."""
    wanted = torch.full_like(batch.input_ids, token)
    wanted = wanted.masked_fill(batch.attention_mask == 0, IGNORED)
    return cross_entropy(logits(model, batch), wanted)


@dataclass(frozen=True, kw_only=True)
class CTRAP:
    """``CE(refusals) + CE(retain) + λ ℓ_c(θ − α ĝ)``: ``ĝ`` the direction of the harmful loss at θ,
    held constant, ``ℓ_c`` the loss of the last token of ``word`` at every place of the refusals and
    the retain text.

    Source: Yi et al. 2025, arXiv:2505.16559, settings of its repository, which normalises the step;
    ``normalised`` false is the paper's formula.
    """

    weight: float = 0.1
    step: float = 0.1
    normalised: bool = True
    word: str = "an error"
    retain_weight: float = 1.0
    lr: float = 5e-4
    batch_size: int = 10
    weight_decay: float = 0.0
    parameters: Parameters = "lora"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not all(0 <= x < math.inf for x in (self.weight, self.step, self.retain_weight)):
            raise BadInput(
                f"ctrap: weight={self.weight}, step={self.step} and retain_weight="
                f"{self.retain_weight} must not be negative."
            )
        if not self.word.strip():
            raise BadInput("ctrap: word is empty; give the text whose last token is to be said.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        token = lm.answer_ids(self.word, end=False)[-1]

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            loss = safe_loss(model, bundle, self.retain_weight)
            loss.backward()
            logs = {"loss": float(loss.detach())}
            if self.weight:
                with still(model):
                    logs["loss"] += self.weight * self._trap(model, bundle, token)
            return logs

        general = {"safe": 1.0, "retain": 1.0} if self.weight else {}
        sources = aligned(run, self.retain_weight, harmful=self.weight > 0)
        return harden(
            lm, run, Training.of(self), sources, lambda _ready: [Phase(grad=grad, passes=general)]
        )

    def _trap(self, model: Any, bundle: Bundle, token: int) -> float:
        weights, bad = trained(model), bundle["harmful"]
        here = gradient(cross_entropy(logits(model, bad), bad.labels), weights)
        stride = self.step / max(float(here.norm()), 1e-12) if self.normalised else self.step
        general = [bundle[role] for role in ("safe", "retain") if role in bundle.parts]
        with displaced(weights, here, -stride):
            loss = torch.stack([constant(model, batch, token) for batch in general]).mean()
            deposit(weights, gradient(loss, weights), self.weight)
        return float(loss.detach())


PRESETS = {
    "ctrap-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-3, "batch_size": 32},
        steps=(250, 1000),
        source="titer",
    ),
    "ctrap-paper": Preset(
        title="the paper's step, not normalised",
        fields={"normalised": False},
        steps=(250, 10000),
        source="arXiv:2505.16559",
    ),
    "ctrap-code": Preset(
        title="as its repository runs it",
        fields={},
        steps=(250, 10000),
        source="arXiv:2505.16559, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=CTRAP,
    source="arXiv:2505.16559",
    summary="after one harmful step the model would say one word for ever",
    family="collapse",
    departures="none. Data: hazard with refusals and harmful answers, retain. 3 passes a step. "
    "Claims resistance, stability and trainability. Known breaker: harmful reinforcement "
    "(arXiv:2508.20697); it looks one step ahead",
    presets=PRESETS,
)
