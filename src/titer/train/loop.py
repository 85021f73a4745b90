"""The one training loop. Methods hand it gradients; it owns everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar

import torch
from torch import nn

from titer.core.errors import Diverged
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.nn.chance import seeded
from titer.train.optimisers import (
    Optimiser,
    Schedule,
    averaged,
    build_optimiser,
    multiplier,
    settle,
)

__all__ = ["Charged", "GradFn", "Recipe", "descend", "fit"]


class Charged(Protocol):
    """What a step consumes: a :class:`~titer.train.batches.Batch` or a bundle of them."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def tokens(self) -> int: ...


class Price(TypedDict):
    """What a step costs, as :meth:`Run.affords` and :meth:`Run.charge` take it."""

    tokens: int
    examples: set[str]
    flops: float


B = TypeVar("B", bound=Charged)

GradFn = Callable[[Any, B], dict[str, float]]
"""Adds gradients to ``.grad`` and returns logs, among them ``loss``."""


def _nothing(_batch: Any) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the loop steps.

    ``lr``: peak learning rate. ``betas``: AdamW's. ``warmup``: share of the steps spent rising.
    ``clip``: largest joint gradient norm, None for no clipping. ``accumulate``: batches a step,
    gradients averaged.
    ``flops_per_token``: see :class:`titer.nn.trainable.Trainable`. ``flops_besides``: operations a
    batch costs on top, such as a frozen model's forward pass.
    """

    lr: float
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = 1.0
    accumulate: int = 1
    flops_per_token: float = 0.0
    flops_besides: Callable[[Any], float] = _nothing

    def flops(self, batch: Charged) -> float:
        """Floating-point operations of one batch."""
        return self.flops_per_token * batch.tokens + self.flops_besides(batch)


def descend(loss: Callable[[Any, B], torch.Tensor]) -> GradFn[B]:
    """The gradient of a scalar loss."""

    def grad(model: Any, batch: B) -> dict[str, float]:
        value = loss(model, batch)
        value.backward()
        return {"loss": float(value.detach())}

    return grad


def fit(
    lm: LM,
    grad: GradFn[B],
    batches: Iterator[B],
    run: Run,
    *,
    parameters: list[nn.Parameter],
    recipe: Recipe,
    steps: int,
) -> None:
    """Take up to ``steps`` optimiser steps on ``parameters``, stopping before one that the budget
    does not afford.

    Zeroes gradients, accumulates, clips, sets the scheduled learning rate, steps, charges the run
    and logs the learning rate that was really applied. ``run.look`` is called where a checkpoint is
    due, before a step and after the last; being looked at changes nothing. Chance inside the model
    (dropout) is drawn from the run's seed.

    Raises:
        Diverged: the loss, the gradient or the final weights are not finite.
    """
    optimiser = build_optimiser(
        recipe.optimiser,
        parameters,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        betas=recipe.betas,
    )
    warmup = round(recipe.warmup * steps)
    _doubt(parameters, run)
    with seeded(seed_for(run.seed, f"model {run.spent.steps}"), lm.device):
        for step in range(steps):
            if run.exhausted():
                break
            if run.due():
                with averaged(optimiser), seeded(0, lm.device):
                    lm.model.eval()
                    run.look(lm)
            drawn = [next(batches) for _ in range(recipe.accumulate)]
            price = _price(drawn, recipe)
            if not run.affords(**price):
                break
            if not lm.model.training:  # it walks over every module, and adapters have hundreds
                lm.model.train()
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * multiplier(recipe.schedule, step, steps, warmup)
            loss = _step(lm.model, grad, drawn, run, optimiser, parameters, recipe.clip)
            run.charge(steps=1, **price)
            run.losses.append(loss)
            run.rates.append(float(optimiser.param_groups[0]["lr"]))
        settle(optimiser)
    lm.model.eval()
    if not all(bool(torch.isfinite(weight).all()) for weight in parameters):
        raise Diverged(
            f"after {run.spent.steps} steps some weights are not finite; lower the learning rate."
        )
    run.look(lm)


def _doubt(parameters: list[nn.Parameter], run: Run) -> None:
    """An AdamW step of 2e-5 is lost on most bfloat16 weights: their spacing at 0.02 is 1.2e-4."""
    coarse = any(weight.dtype in (torch.bfloat16, torch.float16) for weight in parameters)
    if coarse and "half-precision-weights" not in run.flags:
        run.flags.append("half-precision-weights")


def _price(batches: Sequence[Charged], recipe: Recipe) -> Price:
    return {
        "tokens": sum(batch.tokens for batch in batches),
        "examples": {name for batch in batches for name in batch.ids},
        "flops": sum(recipe.flops(batch) for batch in batches),
    }


def _step(
    model: Any,
    grad: GradFn[B],
    batches: Sequence[B],
    run: Run,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    clip: float | None,
) -> float:
    optimiser.zero_grad(set_to_none=True)
    loss = sum(grad(model, batch)["loss"] for batch in batches) / len(batches)
    if len(batches) > 1:
        for weight in parameters:
            if weight.grad is not None:
                weight.grad /= len(batches)
    norm = float(nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
            f"after {run.spent.steps} steps the loss is {loss} and the gradient norm {norm}; "
            "lower the learning rate or clip."
        )
    optimiser.step()
    return loss
