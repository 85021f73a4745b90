"""How much of a model a method gets at. What is out of reach is counted and said: an attack that
never touched most of the weights was not withstood by them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from titer.core.method import Run
from titer.nn.edits import linears, parameters
from titer.nn.hooks import blocks
from titer.nn.products import uses

__all__ = ["ENOUGH", "Reach", "note", "of_matrices", "reach", "tell"]

ENOUGH = 0.99
"""The share below which a row is doubted."""


@dataclass(frozen=True)
class Reach:
    """``share``: of the weights that multiply inside the blocks, by number. ``missed``: the names
    in their block of the tensors left out, each once."""

    share: float
    missed: tuple[str, ...] = ()


def reach(model: Any, reached: Iterable[nn.Parameter]) -> Reach:
    """What part ``reached`` is of the weights inside the blocks that take part in products."""
    mine = {id(weight) for weight in reached}
    total = held = 0
    missed: set[str] = set()
    for block, used in zip(blocks(model), uses(model), strict=True):
        layers = {
            id(getattr(module, "weight", None))
            for module in block.modules()
            if isinstance(module, nn.Linear)
        }
        for name, weight in block.named_parameters():
            if weight.dim() < 2 or not (used[name].multiplies or id(weight) in layers):
                continue
            total += weight.numel()
            if id(weight) in mine:
                held += weight.numel()
            else:
                missed.add(name)
    return Reach(held / total if total else 1.0, tuple(sorted(missed)))


def of_matrices(model: Any) -> Reach:
    """The reach of a method that changes every map of :func:`~titer.nn.edits.linears`."""
    return reach(model, parameters(linears(model)))


def note(run: Run, share: float, what: str) -> None:
    """Flag a defence that got at less than :data:`ENOUGH`; see :func:`tell`."""
    if share < ENOUGH:
        run.flags.append(f"reached only {share:.1%} of the {what}")


def tell(run: Run, share: float, what: str) -> None:
    """Write the share that was reached into the course of a run, and doubt the run if it is less
    than :data:`ENOUGH`. ``what`` names the whole, as in "weights of the blocks"."""
    run.course.append({"step": float(run.spent.steps), "reach": share})
    if share < ENOUGH:
        run.doubts.append(f"reached only {share:.1%} of the {what}")
