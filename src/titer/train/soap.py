"""Adam in the eigenbasis of Shampoo's preconditioner. O and I are a matrix's two axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Soap"]


class Soap(torch.optim.Optimizer):
    """AdamW whose second moments are kept in the eigenbases of E[G Gᵀ] and E[Gᵀ G].

    Matrices have both bases, unless an axis is longer than ``longest``, which keeps its own
    coordinates; with none left, and for everything that is no matrix, this is AdamW. Rotating a
    matrix's axes rotates the steps along, so that no choice of coordinates slows it down.

    Args:
        params: weights or groups of them.
        lr: learning rate; AdamW's carries over.
        betas: Adam's decays.
        decay: that of the two second-moment matrices.
        every: steps between updates of the bases.

    Source: Vyas et al. 2024, arXiv:2409.11321, algorithm 3.
    Departs: the first step is taken, not skipped; a ten-thousandth of a matrix's own root mean
    square joins ``eps``, since in directions without gradient Adam would follow rounding.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        decay: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 10,
        longest: int = 10_000,
    ) -> None:
        self._every, self._longest, self._decay = every, longest, decay
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad.float(), group)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(taken=0, first=torch.zeros_like(gradient))
            state.update(second=torch.zeros_like(gradient), sums={}, bases={})
        self._gather(state, gradient)
        state["taken"] += 1
        (one, two), taken = group["betas"], state["taken"]
        state["first"].lerp_(gradient, 1 - one)
        turned = _turn(gradient, state["bases"])
        state["second"].lerp_(turned.square(), 1 - two)
        mean = _turn(state["first"], state["bases"]) / (1 - one**taken)
        square = state["second"] / (1 - two**taken)
        spread = square.sqrt() + group["eps"]
        if state["bases"]:
            spread += 1e-4 * square.mean().sqrt()
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_((group["lr"] * _turn(mean / spread, state["bases"], back=True)).to(weight))
        if taken % self._every == 0:
            for axis in state["bases"]:
                self._follow(state, axis)

    def _follow(self, state: dict[str, Any], axis: int) -> None:
        """One step of orthogonal iteration, strongest first, and the moments in that order."""
        total, basis = state["sums"][axis], state["bases"][axis]
        order = (basis * (total @ basis)).sum(0).argsort(descending=True)
        state["second"] = state["second"].index_select(axis, order)
        state["bases"][axis] = torch.linalg.qr(total @ basis[:, order]).Q

    def _gather(self, state: dict[str, Any], gradient: Tensor) -> None:
        """Take a gradient into the second-moment matrices; the first one gives the bases."""
        if gradient.dim() != 2:
            return
        for axis in (0, 1):
            if gradient.shape[axis] > self._longest:
                continue
            product = gradient @ gradient.T if axis == 0 else gradient.T @ gradient
            if axis not in state["sums"]:
                state["sums"][axis] = (1 - self._decay) * product
                state["bases"][axis] = _basis(product)
            else:
                state["sums"][axis].lerp_(product, 1 - self._decay)


def _basis(total: Tensor) -> Tensor:
    """Eigenvectors, strongest first. A token that did not occur leaves a row of zeros, and many
    equal eigenvalues defeat the solver in single precision; a little on the diagonal does not."""
    scaled = (total / total.diagonal().max().clamp(min=1e-30)).double()
    ridge = torch.linspace(1e-9, 2e-9, len(total), dtype=scaled.dtype, device=scaled.device)
    return torch.linalg.eigh(scaled + ridge.diag()).eigenvectors.flip(1).to(total)


def _turn(matrix: Tensor, bases: dict[int, Tensor], *, back: bool = False) -> Tensor:
    """Into the bases of both axes, or back out of them."""
    for axis, basis in bases.items():
        along = basis.T if back else basis
        matrix = along.T @ matrix if axis == 0 else matrix @ along
    return matrix
