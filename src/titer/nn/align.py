"""What a public relative gives away of a matrix that was moved to another basis. O output, I input.

Sources: matching of directions to a public base, ArrowMatch (USENIX Security 2025); of a static
basis, arXiv:2602.11088.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Match", "distance", "match", "procrustes", "row_order"]

How = Literal["as it is", "reordered", "turned", "the relative's"]


@dataclass(frozen=True)
class Match:
    """A matrix brought back: ``left`` is the (O, O) factor that was undone, None where the matrix
    was in its own basis or where nothing fits and it is the relative's own."""

    how: How
    weight_OI: Tensor
    left: Tensor | None = None


def distance(found: Tensor, public: Tensor) -> float:
    """``‖found − public‖ / ‖public‖``, Frobenius."""
    return float((found - public).norm() / public.norm().clamp(min=1e-30))


def procrustes(locked_OI: Tensor, public_OI: Tensor) -> Tensor:
    """The orthogonal ``Q`` (O, O) for which ``‖locked − Q public‖`` is least.

    Source: Schönemann 1966.
    """
    u, _, vt = torch.linalg.svd(locked_OI @ public_OI.T)
    return u @ vt


def row_order(locked_OI: Tensor, public_OI: Tensor) -> Tensor:
    """The permutation ``Q`` (O, O) that pairs rows of like direction best: an assignment."""
    from scipy.optimize import linear_sum_assignment

    unit = [
        rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-30) for rows in (locked_OI, public_OI)
    ]
    likeness = (unit[0] @ unit[1].T).cpu().numpy()
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    order = torch.zeros(likeness.shape, dtype=locked_OI.dtype, device=locked_OI.device)
    order[torch.as_tensor(rows), torch.as_tensor(columns)] = 1
    return order


def match(locked_OI: Tensor, public_OI: Tensor, near: float = 0.5) -> Match:
    """The locked matrix in the relative's basis, by the simplest means that brings it near.

    As it is, with its rows reordered, turned from the left, in this order; where none of them comes
    within ``near`` of the relative's matrix (both sides were turned, or it is no relative), that
    matrix itself. All in double precision.
    """
    locked, public = locked_OI.double(), public_OI.double()
    if distance(locked, public) <= near:
        return Match("as it is", locked)
    for how, find in (("reordered", row_order), ("turned", procrustes)):
        left = find(locked, public)
        found = left.T @ locked
        if distance(found, public) <= near:
            return Match(how, found, left)  # type: ignore[arg-type]
    return Match("the relative's", public)
