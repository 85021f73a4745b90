"""The one training loop. Methods hand it gradients; it owns everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from titer.core.errors import Diverged
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.train.optimisers import Optimiser, Schedule, averaged, build_optimiser, multiplier

__all__ = ["Charged", "GradFn", "Recipe", "descend", "fit"]


class Charged(Protocol):
    """What a step consumes: a :class:`~titer.train.batches.Batch` or a bundle of them."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def tokens(self) -> int: ...


B = TypeVar("B", bound=Charged)

GradFn = Callable[[Any, B], dict[str, float]]
"""Adds gradients to ``.grad`` and returns logs, among them ``loss``."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the loop steps.

    ``lr``: peak learning rate. ``warmup``: share of the steps spent rising. ``clip``: largest joint
    gradient norm, None for no clipping. ``accumulate``: batches a step, gradients averaged.
    ``flops_per_token``: see :func:`titer.nn.trainable.flops_per_token`.
    """

    lr: float
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = 1.0
    accumulate: int = 1
    flops_per_token: float = 0.0


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
    """Take up to ``steps`` optimiser steps on ``parameters``, stopping when the budget is spent.

    Zeroes gradients, accumulates, clips, sets the scheduled learning rate, steps, charges the run
    and logs the learning rate that was really applied. ``run.look`` is called before each step and
    after the last. Chance inside the model (dropout) is drawn from the run's seed.

    Raises:
        Diverged: the loss or the gradient is not finite.
    """
    optimiser = build_optimiser(
        recipe.optimiser, parameters, lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    warmup = round(recipe.warmup * steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(run.seed, f"model {run.spent.steps}") % 2**63)
        for step in range(steps):
            if run.exhausted():
                break
            with averaged(optimiser):
                run.look(lm)
            lm.model.train()
            rate = recipe.lr * multiplier(recipe.schedule, step, steps, warmup)
            _step(lm.model, grad, batches, run, optimiser, parameters, recipe, rate)
        _settle(optimiser)
    lm.model.eval()
    run.look(lm)


def _step(
    model: Any,
    grad: GradFn[B],
    batches: Iterator[B],
    run: Run,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    recipe: Recipe,
    rate: float,
) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss = 0.0
    for _ in range(recipe.accumulate):
        batch = next(batches)
        loss += grad(model, batch)["loss"] / recipe.accumulate
        run.charge(
            tokens=batch.tokens,
            examples=batch.ids,
            flops=recipe.flops_per_token * batch.tokens,
        )
    if recipe.accumulate > 1:
        for weight in parameters:
            if weight.grad is not None:
                weight.grad /= recipe.accumulate
    norm = float(nn.utils.clip_grad_norm_(parameters, recipe.clip or math.inf))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
            f"after {run.spent.steps} steps the loss is {loss} and the gradient norm {norm}; "
            "lower the learning rate or clip."
        )
    optimiser.step()
    run.charge(steps=1)
    run.losses.append(loss)
    run.rates.append(float(optimiser.param_groups[0]["lr"]))


def _settle(optimiser: torch.optim.Optimizer) -> None:
    """Leave the weights that the optimiser hands over in place for good."""
    free: Any = optimiser
    if hasattr(optimiser, "eval"):
        free.eval()
