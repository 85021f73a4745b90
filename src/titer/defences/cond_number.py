"""Immunisation by condition numbers: features of the hazard ill-conditioned, others well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import IGNORED, Batch
from titer.train.objectives import cross_entropy
from titer.train.unlearn import Terms, Training, descend_terms

__all__ = ["CARD", "PRESETS", "CondNumber", "gram", "ill", "well"]

_LEAST = 1e-6


def gram(features_ND: Tensor) -> Tensor:
    """``XᵀX / Σx² · D + 1e-6`` in double precision, (D, D): its trace is D whatever the features'
    size and number."""
    x = features_ND.double()
    size = x.detach().pow(2).sum().clamp(min=1e-30)
    width = x.shape[1]
    return x.T @ x * (width / size) + _LEAST * torch.eye(width, dtype=x.dtype, device=x.device)


def well(gram_DD: Tensor) -> Tensor:
    """``½ σ_max² − ‖S‖²_F / 2D``: 0 where all eigenvalues are one, never negative."""
    values = torch.linalg.eigvalsh(gram_DD)
    return 0.5 * values[-1].pow(2) - values.pow(2).sum() / (2 * len(values))


def ill(gram_DD: Tensor) -> Tensor:
    """``1 / (‖S‖²_F / 2D − ½ σ_min²)``, ``σ_min`` the least eigenvalue above 1e-6."""
    values = torch.linalg.eigvalsh(gram_DD)
    above = values[values > _LEAST]
    least = above[0] if len(above) else values[-1]
    spread = values.pow(2).sum() / (2 * len(values)) - 0.5 * least.pow(2)
    return 1.0 / spread.clamp(min=1e-12)


@dataclass(frozen=True, kw_only=True)
class CondNumber:
    """``CE(retain) + λ₁ R_well(S_retain) + λ₂ R_ill(S_hazard)``, S the Gram matrix of what the
    model hands its head at the tokens before each answer's.

    Source: Zheng et al. 2025, arXiv:2505.23760, and its repository, whose weights (λ₂ up to 4e10
    times λ₁) are for pictures with features as they come.
    Departs: language models, which the paper does not have; features are scaled to one trace, so
    that weights mean the same on every model; one pass over a batch stands for the whole Gram
    matrix.
    """

    well_weight: float = 1.0
    ill_weight: float = 1.0
    retain_weight: float = 1.0
    lr: float = 1e-5
    batch_size: int = 16
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        known = (self.well_weight, self.ill_weight, self.retain_weight)
        if not all(0 <= value < math.inf for value in known):
            raise BadInput(
                f"cond_number: well_weight={self.well_weight}, ill_weight={self.ill_weight} and "
                f"retain_weight={self.retain_weight} must not be negative."
            )
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """The hazard's features ill-conditioned, retain text's well-conditioned and its loss."""

        def features(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
            out = model(**batch.inputs(), use_cache=False, output_hidden_states=True)
            before = batch.labels[:, 1:] != IGNORED
            return out.hidden_states[-1][:, :-1][before], out.logits

        def forget(model: Any, batch: Batch) -> Tensor:
            states, _ = features(model, batch)
            return self.ill_weight * ill(gram(states)).to(states.dtype)

        def retain(model: Any, batch: Batch) -> Tensor:
            states, out = features(model, batch)
            shaped = self.well_weight * well(gram(states)).to(states.dtype)
            return self.retain_weight * cross_entropy(out, batch.labels) + shaped

        return Terms(forget=forget, retain=retain)

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


PRESETS = {
    "cond_number-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 5e-4, "batch_size": 32, "well_weight": 0.01},
        steps=(250, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=CondNumber,
    source="arXiv:2505.23760",
    summary="features of the hazard are made ill-conditioned, those of other text well-conditioned",
    family="representation",
    departures="language models and scaled features, weights ours: there is no preset of the "
    "paper's. Data: hazard, retain. 2 passes and an eigen-decomposition a step. Claims "
    "resistance to linear probes and trainability. Known breaker: any attacker who trains the "
    "features too",
    presets=PRESETS,
)
