"""Optimisers and schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypedDict, assert_never

import torch
from torch import nn

__all__ = ["Group", "Optimiser", "Schedule", "Steppers", "build_optimiser", "multiplier"]

Optimiser = Literal["adamw", "sgd", "sgd-nesterov", "adadelta", "schedule-free", "soap"]
Schedule = Literal["constant", "cosine", "cosine-throughout", "linear", "held"]


class Group(TypedDict):
    """One member's weights and how they are stepped."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def build_optimiser(
    kind: Optimiser, groups: Sequence[Group], *, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    """An optimiser over groups of weights, one a member: each has its own ``params``, ``lr`` and
    ``weight_decay``.

    SGD has Nesterov momentum 0.9; Schedule-Free AdamW is Defazio et al. 2024, arXiv:2405.15682,
    from its authors' package. ``soap`` needs whole matrices: of weights laid end to end it makes
    AdamW.
    """
    given: list[Any] = [dict(group) for group in groups]
    rate = groups[0]["lr"]
    match kind:
        case "adamw":
            return torch.optim.AdamW(given, lr=rate, betas=betas, fused=True)
        case "sgd":
            return torch.optim.SGD(given, lr=rate)
        case "sgd-nesterov":
            return torch.optim.SGD(given, lr=rate, momentum=0.9, nesterov=True)
        case "adadelta":
            return torch.optim.Adadelta(given, lr=rate)
        case "schedule-free":
            from schedulefree import AdamWScheduleFree

            free = AdamWScheduleFree(given, lr=rate, betas=betas)
            free.train()
            return free
        case "soap":
            from titer.train.soap import Soap

            return Soap(given, lr=rate, betas=betas)
        case _:
            assert_never(kind)


class Steppers:
    """The optimisers of several members: one a kind, in which every member is a group of its own.

    ``members`` maps a member to its optimiser's kind and its group. A step moves all members still
    here; the state of one that leaves goes with it.
    """

    def __init__(self, members: Mapping[int, tuple[Optimiser, Group]], **more: Any) -> None:
        self._groups: dict[int, dict[str, Any]] = {}
        self._owner: dict[int, torch.optim.Optimizer] = {}
        kinds: dict[Optimiser, None] = dict.fromkeys(kind for kind, _ in members.values())
        for kind in kinds:
            mine = {member: group for member, (own, group) in members.items() if own == kind}
            optimiser = build_optimiser(kind, list(mine.values()), **more)
            for member, group in zip(mine, optimiser.param_groups, strict=True):
                self._groups[member], self._owner[member] = group, optimiser

    def step(self, rates: Mapping[int, float]) -> None:
        """One step of every member at its rate."""
        for member, rate in rates.items():
            self._groups[member]["lr"] = rate
        for optimiser in {id(owner): owner for owner in self._owner.values()}.values():
            optimiser.step()

    @contextmanager
    def averaged(self, member: int) -> Iterator[None]:
        """Inside, the member's weights are those its optimiser would hand over: Schedule-Free keeps
        an average.

        Outside, they are bit for bit what they were, so that looking does not disturb training:
        Schedule-Free's own way back is off by a rounding.
        """
        free: Any = self._owner[member]
        if not hasattr(free, "eval"):
            yield
            return
        weights = list(self._groups[member]["params"])
        kept = [weight.detach().clone() for weight in weights]
        with self._only(member):
            free.eval()
        try:
            yield
        finally:
            with self._only(member):
                free.train()
            with torch.no_grad():
                for weight, before in zip(weights, kept, strict=True):
                    weight.copy_(before)

    def leave(self, member: int) -> None:
        """Take a member out, its weights those that the optimiser hands over."""
        owner: Any = self._owner.pop(member)
        if hasattr(owner, "eval"):
            with self._only(member, owner):
                owner.eval()
        group = self._groups.pop(member)
        for weight in group["params"]:
            owner.state.pop(weight, None)
        owner.param_groups[:] = [other for other in owner.param_groups if other is not group]

    @contextmanager
    def _only(self, member: int, owner: Any = None) -> Iterator[None]:
        """Inside, the member's optimiser knows no other."""
        owner = owner or self._owner[member]
        everyone = owner.param_groups
        owner.param_groups = [self._groups[member]]
        try:
            yield
        finally:
            owner.param_groups = everyone


def multiplier(schedule: Schedule, step: int, total: int, warmup: int) -> float:
    """The factor on the peak learning rate at ``step`` of ``total``, counted from 0.

    Warm-up rises linearly and reaches 1 at step ``warmup``; what follows is constant, or falls to 0
    at ``total`` by half a cosine or a line. ``cosine-throughout`` counts its half cosine from the
    first step and multiplies it with a rise that reaches 1 one step before ``warmup``. ``held`` is
    0 up to ``warmup`` and 1 from there on: an optimiser gathers its moments before it moves.
    """
    if schedule == "held":
        return float(step >= warmup)
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
