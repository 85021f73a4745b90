"""ASU: learn the hazard from oneself with attention smoothed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.products import few_tokens
from titer.nn.trainable import Parameters
from titer.train.batches import Batch
from titer.train.objectives import kl_to
from titer.train.unlearn import Retain, Terms, Training, descend_terms, logits, retain_loss

__all__ = ["ASU", "CARD", "PRESETS", "smoothed"]


@torch.no_grad()
def smoothed(lm: LM, temperature: float) -> Any:
    """A copy of the model with all attention logits divided by ``temperature``.

    Raises:
        BadInput: the model's attention takes no scale of its own, or not everywhere.
    """
    model = copy.deepcopy(lm.model)
    found = 0
    for module in model.modules():
        if isinstance(getattr(module, "scaling", None), float):
            module.scaling /= temperature
            found += 1
    asked = few_tokens(model)
    same = torch.equal(model(**asked).logits, lm.model(**asked).logits)
    if not found or (same and temperature != 1.0):
        raise BadInput(
            f"asu: attention of {type(model).__name__} keeps no scale that a temperature could "
            "change."
        )
    return model.requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class ASU:
    """Distil a teacher on hazardous answers: the start with attention logits over ``temperature``.

    Recall blurs and grammar stays. ``backward`` takes KL(student ‖ teacher), where the formula has
    KL(teacher ‖ student).

    Source: arXiv:2603.01285; its README could be read and its code not found; a figure shows the
    divergence the other way round.
    """

    temperature: float = 2.0
    backward: bool = False
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    retain: Retain = "ce"
    lr: float = 2e-5
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise BadInput(f"asu: temperature={self.temperature} must be positive.")
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """The smoothed teacher on the hazard, plus what is kept.

        Raises:
            BadInput: attention takes no temperature.
        """
        teacher = smoothed(lm, self.temperature)

        def forget(model: Any, batch: Batch) -> Tensor:
            with torch.no_grad():
                wanted = logits(teacher, batch)
            found = logits(model, batch)
            pair = (found, wanted) if self.backward else (wanted, found)
            return self.forget_weight * kl_to(*pair, batch.labels)

        def retain(model: Any, batch: Batch) -> Tensor:
            return self.retain_weight * retain_loss(self.retain, model, lm.model, batch)

        frozen: tuple[Literal["forget", "retain"], ...] = ("forget", "retain")
        return Terms(
            forget=forget,
            retain=retain,
            frozen=frozen if self.retain == "kl" else frozen[:1],
            packed=("retain",),
        )

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


PRESETS = {
    "asu-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "batch_size": 32},
        steps=(250, 1000),
        source="titer",
    ),
    "asu-paper": Preset(
        title="Llama-2-7B", fields={}, steps=(250, 1000), source="arXiv:2603.01285, README"
    ),
}

CARD = Card(
    kind="defence",
    build=ASU,
    source="arXiv:2603.01285",
    summary="the hazard is learned from oneself with attention smoothed",
    family="unlearning",
    departures="only abstract and README could be read; the divergence goes as in the formula. "
    "Data: hazard, retain. 2 passes + 1 forward a step. Claims utility and no resistance; no "
    "relearning test published",
    presets=PRESETS,
)
