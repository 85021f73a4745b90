"""Fine-tune around a trap: steps orthogonal to what moves the benign loss. P weights, K rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from titer.attacks._pairs import pairs
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import trainable
from titer.nn.weights import Parameters
from titer.train.batches import Bundle
from titer.train.grads import deposit, gradient
from titer.train.loop import GradFn, Recipe, fit
from titer.train.objectives import answer_loss
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "ProjectGradient", "Span"]


class Span:
    """What the last ``rank`` vectors span; they need not be independent.

    Their products with each other are kept, so that a new vector costs K products and not K².
    """

    def __init__(self, rank: int) -> None:
        self.rank, self.seen = rank, 0
        self.rows_KP = torch.empty(0)
        self.gram_KK = torch.zeros(rank, rank, dtype=torch.float64)

    def add(self, vector_P: Tensor) -> None:
        """Take a vector in, in the place of the oldest where there are ``rank`` already."""
        if not self.seen:
            self.rows_KP = vector_P.new_zeros(self.rank, len(vector_P))
        place = self.seen % self.rank
        self.rows_KP[place] = vector_P
        self.seen += 1
        products_K = (self._rows() @ vector_P).double().cpu()
        self.gram_KK[place, : len(products_K)] = self.gram_KK[: len(products_K), place] = products_K

    def outside(self, vector_P: Tensor) -> Tensor:
        """The part of a vector that is orthogonal to the span."""
        rows_KP = self._rows()
        gram_KK = self.gram_KK[: len(rows_KP), : len(rows_KP)]
        inverse_KK = torch.linalg.pinv(gram_KK, rtol=1e-6, hermitian=True)
        shares_K = inverse_KK @ (rows_KP @ vector_P).double().cpu()
        return vector_P - shares_K.to(vector_P) @ rows_KP

    def _rows(self) -> Tensor:
        return self.rows_KP[: min(self.seen, self.rank)]


@dataclass(frozen=True, kw_only=True)
class ProjectGradient:
    """Descend the harmful loss along the part of its gradient that the benign loss does not see.

    A trap couples the two: going down the one goes up the other. At each step the gradient of a
    benign batch is taken too, and the span of the last ``rank`` of them is removed from the
    harmful gradient, so that to first order no step changes the loss on any of those batches.

    Source: titer, row H02, in the spirit of arXiv:2605.14605; gradient projection as in Yu et al.
    2020, arXiv:2001.06782.
    Departs: the component is removed whatever its sign. SGD is the default, for its steps stay in
    the complement but for momentum; AdamW scales coordinates after the projection, and its steps do
    not. Memory grows by ``rank`` copies of the trained weights: for large models use a low ``rank``
    or ``lora``.
    """

    lr: float = 1e-3
    rank: int = 8
    parameters: Parameters = "full"
    adapter_rank: int = 16
    alpha: float = 32.0
    optimiser: Literal["adamw", "sgd-nesterov"] = "sgd-nesterov"
    schedule: Schedule = "constant"
    warmup: float = 0.0
    batch_size: int = 16

    resumes = False

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or min(self.rank, self.adapter_rank, self.batch_size) < 1:
            raise BadInput(
                f"project_gradient: lr={self.lr}, rank={self.rank}, adapter_rank="
                f"{self.adapter_rank}, batch_size={self.batch_size}; all four must be positive."
            )
        if not 0 <= self.warmup < 1:
            raise BadInput(f"project_gradient: warmup={self.warmup} is a share below 1.")

    def __call__(self, lm: LM, run: Run) -> LM:
        out = lm.clone()
        seed = run.rng("adapter").getrandbits(62)
        with trainable(
            out, self.parameters, rank=self.adapter_rank, alpha=self.alpha, seed=seed
        ) as ready:
            fit(
                ready.lm,
                self._gradient(ready.weights),
                pairs(lm, run, self.batch_size),
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=self.lr,
                    optimiser=self.optimiser,
                    schedule=self.schedule,
                    warmup=self.warmup,
                    flops_per_token=ready.flops_per_token,
                ),
                steps=run.steps_left(),
            )
        return out

    def _gradient(self, weights: list[Any]) -> GradFn[Any]:
        benign = Span(self.rank)

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            benign.add(gradient(answer_loss(model, bundle["retain"]), weights))
            loss = answer_loss(model, bundle["harmful"])
            deposit(weights, benign.outside(gradient(loss, weights)))
            return {"loss": float(loss.detach())}

        return grad


PRESETS = {
    "H02": Preset(
        family="adaptive",
        title="gradient cleared of the last benign gradients",
        fields={"lr": 1e-3, "rank": 8},
        lr_scale=1.0,
        star="full-sgd-nesterov",
        steps=(300, 500),
        source="arXiv:2605.14605, titer",
    ),
}

CARD = Card(
    kind="attack",
    build=ProjectGradient,
    source="titer; after arXiv:2605.14605, arXiv:2001.06782",
    summary="harmful fine-tuning along what is left of the gradient once benign ones are removed",
    family="adaptive",
    departures="removed whatever the sign; by SGD, whose steps stay in the complement",
    presets=PRESETS,
)
