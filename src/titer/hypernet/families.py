"""Families of edits by name."""

from __future__ import annotations

from typing import Literal, cast, get_args

from titer.core.errors import BadInput
from titer.hypernet.edits import Ablation, ActivationEdit, Edit, LowRank, SoftPrompt, Steering

__all__ = ["Family", "edit_of", "families_of"]

Family = Literal[
    "weights",
    "steering",
    "steering-embedding",
    "activations",
    "ablation-read",
    "ablation-write",
    "soft-prompt",
]


def edit_of(
    family: Family, *, rank: int, budget: float | None, modules: tuple[str, ...] = ()
) -> Edit:
    """An edit by name. ``rank`` counts slots, whatever they are; steering has one."""
    match family:
        case "weights":
            return LowRank(rank=rank, budget=budget, modules=modules)
        case "steering":
            return Steering(budget=budget)
        case "steering-embedding":
            return Steering(budget=budget, where="embedding")
        case "activations":
            return ActivationEdit(rank=rank, budget=budget)
        case "ablation-read":
            return Ablation(side="read", directions=rank)
        case "ablation-write":
            return Ablation(side="write", directions=rank)
        case "soft-prompt":
            return SoftPrompt(tokens=rank, budget=budget)


def families_of(names: str) -> tuple[Family, ...]:
    """The families that a text such as ``weights+steering`` names.

    Raises:
        BadInput: there is no such family.
    """
    known = get_args(Family)
    found = tuple(name.strip() for name in names.split("+"))
    if wrong := [name for name in found if name not in known]:
        raise BadInput(f"no family of edits is named {wrong[0]!r}; there are {', '.join(known)}.")
    return cast(tuple[Family, ...], found)
