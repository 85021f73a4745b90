"""Optimisers and schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, assert_never

import torch
from torch import nn

__all__ = ["Optimiser", "Schedule", "averaged", "build_optimiser", "multiplier", "settle"]

Optimiser = Literal["adamw", "sgd-nesterov", "adadelta", "schedule-free"]
Schedule = Literal["constant", "cosine", "cosine-throughout", "linear"]


def build_optimiser(
    kind: Optimiser,
    parameters: Sequence[nn.Parameter],
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """An optimiser over ``parameters``.

    ``betas`` are AdamW's; SGD has Nesterov momentum 0.9; Schedule-Free AdamW is Defazio et
    al. 2024, arXiv:2405.15682, from its authors' package.
    """
    weights = list(parameters)
    match kind:
        case "adamw":
            return torch.optim.AdamW(
                weights, lr=lr, weight_decay=weight_decay, betas=betas, fused=True
            )
        case "sgd-nesterov":
            return torch.optim.SGD(
                weights, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
            )
        case "adadelta":
            return torch.optim.Adadelta(weights, lr=lr, weight_decay=weight_decay)
        case "schedule-free":
            from schedulefree import AdamWScheduleFree

            free = AdamWScheduleFree(weights, lr=lr, weight_decay=weight_decay)
            free.train()
            return free
        case _:
            assert_never(kind)


@contextmanager
def averaged(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Inside, weights are those the optimiser would hand over: Schedule-Free keeps an average.

    Outside, they are bit for bit what they were, so that looking does not disturb training:
    Schedule-Free's own way back is off by a rounding.
    """
    free: Any = optimiser
    if not hasattr(optimiser, "eval"):
        yield
        return
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    kept = [weight.detach().clone() for weight in weights]
    free.eval()
    try:
        yield
    finally:
        free.train()
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


def settle(optimiser: torch.optim.Optimizer) -> None:
    """Leave the weights that the optimiser hands over in place for good."""
    free: Any = optimiser
    if hasattr(optimiser, "eval"):
        free.eval()


def multiplier(schedule: Schedule, step: int, total: int, warmup: int) -> float:
    """The factor on the peak learning rate at ``step`` of ``total``, counted from 0.

    Warm-up rises linearly and reaches 1 at step ``warmup``; what follows is constant, or falls to 0
    at ``total`` by half a cosine or a line. ``cosine-throughout`` counts its half cosine from the
    first step and multiplies it with a rise that reaches 1 one step before ``warmup``.
    """
    if schedule == "cosine-throughout":
        fall = 0.5 * (1.0 + math.cos(math.pi * step / total))
        return min(1.0, (step + 1) / max(1, warmup)) * fall
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        case "linear":
            return 1.0 - progress
        case _:
            assert_never(schedule)
