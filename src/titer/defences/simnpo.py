"""Negative preference optimisation without a reference model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import row_losses, simnpo
from titer.train.unlearn import Retain, Terms, Training, descend_terms, logits, retain_loss

__all__ = ["CARD", "PRESETS", "SimNPO"]


@dataclass(frozen=True, kw_only=True)
class SimNPO:
    """NPO on the mean loss a token, with a margin ``delta`` in the place of the reference.

    Long and short answers weigh the same, and no frozen model is asked.

    Source: Fan et al. 2024, arXiv:2410.07163; the defaults are its repository's for TOFU forget05.
    """

    beta: float = 2.5
    delta: float = 0.0
    lr: float = 1e-5
    forget_weight: float = 0.1375
    retain_weight: float = 1.0
    retain: Retain = "ce"
    batch_size: int = 32
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise BadInput(f"simnpo: beta={self.beta} must be positive.")
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """The losing side of a preference a token, plus what is kept."""

        def forget(model: Any, batch: Batch) -> Tensor:
            rows = row_losses(logits(model, batch), batch.labels, "mean")
            return self.forget_weight * simnpo(rows, self.beta, self.delta)

        def retain(model: Any, batch: Batch) -> Tensor:
            return self.retain_weight * retain_loss(self.retain, model, lm.model, batch)

        return Terms(
            forget=forget,
            retain=retain,
            frozen=("retain",) if self.retain == "kl" else (),
            packed=("retain",),
        )

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


PRESETS = {
    "simnpo-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 2e-3, "beta": 1.0, "forget_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=SimNPO,
    source="arXiv:2410.07163",
    summary="negative preference optimisation a token, without a reference model",
    family="unlearning",
    presets=PRESETS,
)
