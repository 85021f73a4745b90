"""Negative preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import Reduction, npo, row_losses
from titer.train.unlearn import Retain, Terms, Training, descend_terms, logits, retain_loss

__all__ = ["CARD", "NPO", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class NPO:
    """A preference loss with only a losing side: ascent that dampens itself.

    ``beta`` is meaningless without ``reduction``. ``sum`` over an answer's tokens is the paper's.
    ``batch`` takes one log-sigmoid a batch, of the mean over all its tokens, as the repositories
    Unlearn-Smooth and Unlearn-ILU do. ``mean`` over an answer's tokens, one log-sigmoid an answer,
    is neither's: it weighs short and long answers alike.

    Source: Zhang et al. 2024, arXiv:2404.05868.
    Departs: nothing with the defaults; the retain weight is 1 as in the paper's NPO+RT.
    """

    reduction: Reduction = "sum"
    beta: float = 0.1
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
        if not self.beta > 0:
            raise BadInput(f"npo: beta={self.beta} must be positive.")
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """The losing side of a preference, plus what is kept."""

        def rows(model: Any, batch: Batch) -> Tensor:
            return row_losses(logits(model, batch), batch.labels, self.reduction)

        def forget(model: Any, batch: Batch) -> Tensor:
            with torch.no_grad():
                reference = rows(lm.model, batch)
            return self.forget_weight * npo(rows(model, batch), reference, self.beta)

        def retain(model: Any, batch: Batch) -> Tensor:
            return self.retain_weight * retain_loss(self.retain, model, lm.model, batch)

        return Terms(
            forget=forget,
            retain=retain,
            frozen=("forget", "retain") if self.retain == "kl" else ("forget",),
            packed=("retain",),
            order=("retain", "forget"),
        )

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


PRESETS = {
    "npo-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 5e-4},
        steps=(250, 1000),
        source="titer",
    ),
    "npo-135m": Preset(
        title="for models of some hundred million parameters",
        fields={"lr": 3e-4, "batch_size": 4},
        steps=(8, 8),
        source="titer",
        found=134_515_008,
    ),
}

CARD = Card(
    kind="defence",
    build=NPO,
    source="arXiv:2404.05868",
    summary="negative preference optimisation with a retain term",
    family="unlearning",
    presets=PRESETS,
)
