"""Weighted gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import wga
from titer.train.unlearn import Retain, Terms, Training, descend_terms, logits, retain_loss

__all__ = ["CARD", "PRESETS", "WGA"]


@dataclass(frozen=True, kw_only=True)
class WGA:
    """Gradient ascent in which a token pulls by its own confidence to the power ``beta``.

    What is forgotten already stops pulling, so the collapse of plain ascent comes later or not at
    all. ``beta`` 0 is plain ascent.

    Source: Wang et al. 2025, arXiv:2502.19301.
    """

    beta: float = 1.0
    lr: float = 1e-5
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    retain: Retain = "ce"
    batch_size: int = 16
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise BadInput(f"wga: beta={self.beta} must not be negative.")
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """Confident tokens of the hazard pushed up, plus what is kept."""

        def forget(model: Any, batch: Batch) -> Tensor:
            return self.forget_weight * wga(logits(model, batch), batch.labels, self.beta)

        def retain(model: Any, batch: Batch) -> Tensor:
            return self.retain_weight * retain_loss(self.retain, model, lm.model, batch)

        return Terms(
            forget=forget,
            retain=retain,
            frozen=("retain",) if self.retain == "kl" else (),
            packed=("forget", "retain"),
        )

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


PRESETS = {
    "wga-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "batch_size": 32},
        steps=(250, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=WGA,
    source="arXiv:2502.19301",
    summary="gradient ascent weighted by confidence, with a retain term",
    family="unlearning",
    presets=PRESETS,
)
