"""Rounding weights to few bits, and back: the model stays an ordinary one in its own dtype.

Axes: O output, I input. One grid a row, asymmetric, zero always on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import linears, moments, unpadded
from titer.nn.hooks import blocks

__all__ = ["Grid", "gptq", "gptq_model", "rtn", "rtn_model"]


class Grid:
    """The 2^bits levels of each row of a matrix, spread evenly from its least to its largest."""

    def __init__(self, weight_OI: Tensor, bits: int) -> None:
        if not 1 <= bits <= 16:
            raise BadInput(f"bits={bits}: weights are rounded to 1 to 16 bits.")
        self.top = 2**bits - 1
        low = weight_OI.amin(1, keepdim=True).clamp(max=0)
        high = weight_OI.amax(1, keepdim=True).clamp(min=0)
        flat = high == low
        self.step = torch.where(flat, torch.ones_like(low), (high - low) / self.top)
        self.zero = (-low / self.step).round()

    def __call__(self, values_O1: Tensor) -> Tensor:
        """The nearest levels; columns of the matrix or all of it."""
        level = ((values_O1 / self.step).round() + self.zero).clamp(0, self.top)
        return (level - self.zero) * self.step


def rtn(weight_OI: Tensor, bits: int) -> Tensor:
    """Every weight rounded to the nearest level."""
    weight = weight_OI.float()
    return Grid(weight, bits)(weight)


def gptq(
    weight_OI: Tensor, moment_II: Tensor, bits: int, *, damp: float = 0.01, block: int = 128
) -> Tensor:
    """Round column by column, later columns making up for the error on the calibration inputs.

    Args:
        weight_OI: the matrix.
        moment_II: Σ x xᵀ of its inputs, any scale.
        bits: of the grid, which is that of :func:`rtn`.
        damp: share of the mean diagonal that is added to it.
        block: columns whose effect on later blocks is applied together; changes speed only.

    Source: Frantar et al. 2022, arXiv:2210.17323, algorithm 1.
    Departs: columns in their own order; inputs that never fire are rounded to nearest.
    """
    weight = weight_OI.float().clone()
    grid = Grid(weight, bits)
    hessian = moment_II.float().clone()
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1.0
    hessian.diagonal().add_(damp * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    width = weight.shape[1]
    rounded = torch.empty_like(weight)
    for start in range(0, width, block):
        stop = min(start + block, width)
        errors = torch.empty_like(weight[:, start:stop])
        for column in range(start, stop):
            rounded[:, column] = grid(weight[:, column : column + 1]).squeeze(1)
            error = (weight[:, column] - rounded[:, column]) / upper[column, column]
            weight[:, column:stop] -= error[:, None] * upper[column, column:stop]
            errors[:, column - start] = error
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    return rounded


def rtn_model(lm: LM, bits: int) -> None:
    """Round every linear map inside the blocks to nearest, in place."""
    for linear in linears(lm.model):
        linear.weight_OI.copy_(rtn(linear.weight_OI, bits))


def gptq_model(lm: LM, batches: Sequence[dict[str, Tensor]], bits: int) -> None:
    """GPTQ on every linear map inside the blocks, in place, first block to last.

    A block's inputs come from the model as rounded so far. All of a block's maps use the inputs
    seen before any of them is rounded. Costs a forward pass over ``batches`` for each block.

    Raises:
        BadInput: there is nothing to calibrate on.
    """
    if not batches:
        raise BadInput("gptq needs text to calibrate on.")
    forward: Callable[..., Any] = lm.model
    for layer in range(len(blocks(lm.model))):
        maps = linears(lm.model, [layer])
        with moments(lm.model, maps) as seen:
            for batch in batches:
                for inputs in unpadded(batch):
                    forward(**inputs, use_cache=False)
        for linear in maps:
            linear.weight_OI.copy_(gptq(linear.weight_OI, seen.sums[linear.path], bits))
