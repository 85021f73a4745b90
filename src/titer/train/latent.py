"""Pushes on activations that make a loss worst: in one step, or by projected gradient descent.

B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from titer.nn.taps import outputs, pushed

__all__ = ["Ball", "descended", "slopes", "steepest"]

Ball = Literal["token", "example"]


def slopes(modules: Sequence[nn.Module], loss: Callable[[], Tensor]) -> list[Tensor]:
    """The gradient of a loss by the output (B, T, D) of each module, through all that follows."""
    with outputs(modules) as seen:
        value = loss()
    return [grad.detach() for grad in torch.autograd.grad(value, seen)]


def steepest(
    modules: Sequence[nn.Module], loss: Callable[[], Tensor], radius: float
) -> list[Tensor]:
    """``ε_l = ρ ∇_l / ‖(∇_1, …, ∇_L)‖``: the push of joint length ``radius`` that raises the loss
    most, to first order. The norm spans the modules and the whole batch."""
    found = slopes(modules, loss)
    size = torch.stack([grad.pow(2).sum() for grad in found]).sum().sqrt().clamp(min=1e-12)
    return [radius * grad / size for grad in found]


def descended(
    modules: Sequence[nn.Module],
    loss: Callable[[], Tensor],
    *,
    radius: float,
    steps: int,
    lr: float,
    mask_BT: Tensor,
    width: int,
    ball: Ball = "token",
) -> list[Tensor]:
    """Pushes that make a loss small, each no longer than ``radius`` at each module: a ``token``'s,
    or an ``example``'s over all its tokens.

    They start at nothing, take ``steps`` of AdamW at ``lr`` and are projected back after each.
    Tokens outside ``mask_BT`` are not pushed. No weight gets a gradient.
    """
    like: dict[str, Any] = {"device": mask_BT.device, "dtype": next(modules[0].parameters()).dtype}
    across = -1 if ball == "token" else (-2, -1)
    pushes = [torch.zeros(*mask_BT.shape, width, **like).requires_grad_(True) for _ in modules]
    stepper = torch.optim.AdamW(pushes, lr=lr, weight_decay=0.0)
    for _ in range(steps):
        with pushed(modules, pushes):
            value = loss()
        for push, grad in zip(pushes, torch.autograd.grad(value, pushes), strict=True):
            push.grad = grad * mask_BT[..., None]
        stepper.step()
        with torch.no_grad():
            for push in pushes:
                length = push.norm(dim=across, keepdim=True).clamp(min=1e-12)
                push.mul_((radius / length).clamp(max=1.0))
    return [push.detach() for push in pushes]
