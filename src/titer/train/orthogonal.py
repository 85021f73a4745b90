"""Gradients made orthogonal, and as large as the weights they are for. O output, I input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["orthogonalise", "relative"]

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix_OI: Tensor, iterations: int = 5) -> Tensor:
    """About ``U Vᵀ`` for ``U Σ Vᵀ``: Newton–Schulz with the quintic of Muon, which leaves singular
    values between about 0.7 and 1.2.

    Source: Jordan et al. 2024 (Muon); Liu et al. 2025, arXiv:2502.16982.
    """
    a, b, c = _QUINTIC
    tall = matrix_OI.shape[0] > matrix_OI.shape[1]
    x = matrix_OI.T if tall else matrix_OI
    x = x / x.norm().clamp(min=1e-30)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


@torch.no_grad()
def relative(weights: Sequence[nn.Parameter]) -> None:
    """Replace gradients in place: matrices' by their orthogonal factor, others' by their direction,
    each of the norm of the weight it is for (or of a millionth a number, where that is zero).

    A plain step at rate η then moves every tensor by the share η of its own norm: whatever scale a
    tensor was given, its rate follows.
    """
    for weight in weights:
        if weight.grad is None:
            continue
        size = weight.norm().clamp(min=1e-6 * weight.numel() ** 0.5)
        way = orthogonalise(weight.grad) if weight.dim() == 2 else weight.grad
        length = way.norm()
        weight.grad = torch.zeros_like(way) if length == 0 else way * (size / length)
