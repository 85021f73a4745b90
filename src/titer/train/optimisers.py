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
    here; the state of one that leaves goes with it. Weights in half precision have masters in
    single precision that are stepped in their place, since most steps are smaller than the distance
    between two half numbers; the weights follow, rounded.
    """

    def __init__(self, members: Mapping[int, tuple[Optimiser, Group]], **more: Any) -> None:
        self._groups: dict[int, dict[str, Any]] = {}
        self._masters: dict[int, list[tuple[nn.Parameter, nn.Parameter]]] = {}
        members = {
            one: (kind, self._mastered(one, group)) for one, (kind, group) in members.items()
        }
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
        for member in rates:
            self._lead(member)
        for optimiser in {id(owner): owner for owner in self._owner.values()}.values():
            optimiser.step()
        for member in rates:
            self._follow(member)

    def state(self) -> dict[str, Any]:
        """What the optimisers of all members hold, and masters; for members that are all here."""
        owners = {id(owner): owner for owner in self._owner.values()}.values()
        masters = [master.detach() for pairs in self._masters.values() for _, master in pairs]
        return {"optimisers": [owner.state_dict() for owner in owners], "masters": masters}

    @torch.no_grad()
    def take_up(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        owners = {id(owner): owner for owner in self._owner.values()}.values()
        for owner, held in zip(owners, state["optimisers"], strict=True):
            mine = [member for member, other in self._owner.items() if other is owner]
            owner.load_state_dict(held)
            self._groups.update(zip(mine, owner.param_groups, strict=True))  # they are new ones
        masters = [master for pairs in self._masters.values() for _, master in pairs]
        for master, held in zip(masters, state["masters"], strict=True):
            master.copy_(held)

    def _mastered(self, member: int, group: Group) -> Group:
        halves = [w for w in group["params"] if w.dtype in (torch.bfloat16, torch.float16)]
        pairs = [(weight, nn.Parameter(weight.detach().float())) for weight in halves]
        self._masters[member] = pairs
        known = {id(weight): master for weight, master in pairs}
        return {**group, "params": [known.get(id(weight), weight) for weight in group["params"]]}

    @torch.no_grad()
    def _lead(self, member: int) -> None:
        """Hand masters the gradients, and what others did to the weights: a projection, say."""
        for weight, master in self._masters[member]:
            same = weight == master.to(weight.dtype)
            master.copy_(torch.where(same, master, weight.float()))
            master.grad = None if weight.grad is None else weight.grad.float()

    @torch.no_grad()
    def _follow(self, member: int) -> None:
        for weight, master in self._masters[member]:
            weight.copy_(master)

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
        self._follow(member)
        try:
            yield
        finally:
            with self._only(member):
                free.train()
            with torch.no_grad():
                for weight, before in zip(weights, kept, strict=True):
                    weight.copy_(before)
            self._follow(member)

    def leave(self, member: int) -> None:
        """Take a member out, its weights those that the optimiser hands over."""
        owner: Any = self._owner.pop(member)
        if hasattr(owner, "eval"):
            with self._only(member, owner):
                owner.eval()
        self._follow(member)
        del self._masters[member]
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
