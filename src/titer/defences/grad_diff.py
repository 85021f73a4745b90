"""Gradient ascent on the hazard, descent on what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.method import LM, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import cross_entropy
from titer.train.unlearn import Retain, Terms, Training, descend_terms, logits, retain_loss

__all__ = ["CARD", "PRESETS", "GradDiff"]


@dataclass(frozen=True, kw_only=True)
class GradDiff:
    """``-γ CE(forget) + α retain``: unbounded below, so collapse is its normal end state.

    Source: Liu et al. 2022, arXiv:2203.12817; as in Maini et al. 2024, arXiv:2401.06121.
    """

    lr: float = 1e-5
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    retain: Retain = "ce"
    batch_size: int = 32
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """Minus the cross-entropy of the hazard, plus what is kept."""

        def forget(model: Any, batch: Batch) -> Tensor:
            return -self.forget_weight * cross_entropy(logits(model, batch), batch.labels)

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
    "grad_diff-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "forget_weight": 0.1},
        steps=(150, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=GradDiff,
    source="arXiv:2203.12817, arXiv:2401.06121",
    summary="gradient ascent on the hazard with a retain term",
    family="unlearning",
    presets=PRESETS,
)
