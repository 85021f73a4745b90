"""Every token of hazardous text is sent to a random direction of its own. V vocabulary, D width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import mapping_distance
from titer.train.optimisers import Optimiser
from titer.train.unlearn import Retain, Terms, Training, descend_terms, retain_loss

__all__ = ["CARD", "PRESETS", "RandomMapping"]


@dataclass(frozen=True, kw_only=True)
class RandomMapping:
    """Align the hidden states of hazardous text, at every layer, with random vectors.

    The vector belongs to the token's id and is drawn once, so context no longer shows in the state.
    Scrambling of this kind is where TAR starts for knowledge hazards.

    Source: Tamirisa et al. 2024, arXiv:2408.00761, and its repository, whose cosine has an absolute
    value around it.
    """

    lr: float = 1e-5
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    retain: Retain = "ce"
    batch_size: int = 8
    optimiser: Optimiser = "schedule-free"
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """States of the hazard against the table, plus what is kept."""
        rows, width = lm.model.get_input_embeddings().weight.shape
        draw = torch.Generator().manual_seed(run.rng("table").getrandbits(62))
        table_VD = torch.randn(rows, width, generator=draw).to(lm.device)

        def forget(model: Any, batch: Batch) -> Tensor:
            out = model(**batch.inputs(), use_cache=False, output_hidden_states=True)
            targets = table_VD[batch.input_ids]
            layers = [
                mapping_distance(hidden, targets, batch.attention_mask)
                for hidden in out.hidden_states
            ]
            return self.forget_weight * torch.stack(layers).mean()

        def retain(model: Any, batch: Batch) -> Tensor:
            return self.retain_weight * retain_loss(self.retain, model, lm.model, batch)

        return Terms(
            forget=forget,
            retain=retain,
            frozen=("retain",) if self.retain == "kl" else (),
            packed=("retain",),
        )

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run), optimiser=self.optimiser)


PRESETS = {
    "random_mapping-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "batch_size": 32},
        steps=(250, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=RandomMapping,
    source="arXiv:2408.00761",
    summary="hidden states of hazardous text go to random vectors by token",
    family="unlearning",
    presets=PRESETS,
)
