"""Gradients as flat vectors, at the weights or beside them, and products with the Hessian.

P counts the weights that train. A vector is (P,) in the order of :func:`trained`, float32 at least
whatever the weights are, so that norms and products of half-precision models are sound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "Form",
    "Loss",
    "add_hessian_product",
    "deposit",
    "displaced",
    "double_backward",
    "exact",
    "flat",
    "gradient",
    "hessian_product",
    "restored",
    "slope",
    "still",
    "trained",
]

Form = Literal["auto", "exact", "difference"]
"""How a second derivative is taken: by a double backward or from two gradients. ``auto`` takes the
difference, except for half-precision weights, on which a small displacement is lost."""

Loss = Callable[[], Tensor]
"""Computes a scalar anew at each call."""


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The weights that train, each once, in the model's order."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def _single(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def flat(parts: Sequence[Tensor]) -> Tensor:
    """Tensors end to end as one vector."""
    return torch.cat([_single(part.detach()).reshape(-1) for part in parts])


def gradient(loss: Tensor, weights: Sequence[nn.Parameter]) -> Tensor:
    """The gradient of a scalar as a vector, zero where it does not depend on a weight.

    ``.grad`` is neither read nor written.
    """
    if not loss.requires_grad:
        return flat([torch.zeros_like(weight) for weight in weights])
    parts = torch.autograd.grad(loss, weights, allow_unused=True)
    return flat(
        [
            torch.zeros_like(weight) if part is None else part
            for weight, part in zip(weights, parts, strict=True)
        ]
    )


def _pieces(vector: Tensor, weights: Sequence[nn.Parameter]) -> Iterator[Tensor]:
    sizes = [weight.numel() for weight in weights]
    for weight, piece in zip(weights, vector.split(sizes), strict=True):
        yield piece.view_as(weight)


@torch.no_grad()
def deposit(weights: Sequence[nn.Parameter], vector: Tensor, scale: float = 1.0) -> None:
    """Add ``scale`` times a vector to ``.grad``."""
    for weight, piece in zip(weights, _pieces(vector, weights), strict=True):
        if weight.grad is None:
            weight.grad = (scale * piece).to(weight.dtype)
        else:
            weight.grad.add_(piece.to(weight.dtype), alpha=scale)


@contextmanager
def restored(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """After what is done inside, the weights are bitwise as before."""
    kept = [weight.detach().clone() for weight in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


@contextmanager
def displaced(weights: Sequence[nn.Parameter], vector: Tensor, by: float = 1.0) -> Iterator[None]:
    """Inside, the weights stand ``by`` times ``vector`` away; after, they are bitwise as before.

    The sum is rounded to the weights' own precision.
    """
    with restored(weights):
        with torch.no_grad():
            for weight, piece in zip(weights, _pieces(vector, weights), strict=True):
                if weight.dtype == piece.dtype:
                    weight.add_(piece, alpha=by)  # no second copy of a large matrix
                else:
                    weight.copy_(_single(weight) + by * piece)
        yield


def slope(loss: Loss, weights: Sequence[nn.Parameter], vector: Tensor, radius: float) -> float:
    """The derivative of a loss along ``vector``, from two forward passes ``radius`` to either side.

    The error is of the order of ``radius``²; nothing is differentiated.
    """
    length = float(vector.norm())
    if length == 0.0:
        return 0.0
    step = radius / length
    ends: list[float] = []
    for sign in (1.0, -1.0):
        with torch.no_grad(), displaced(weights, vector, sign * step):
            ends.append(float(loss()))
    return (ends[0] - ends[1]) / (2.0 * step)


def exact(form: Form, weights: Sequence[nn.Parameter]) -> bool:
    """Whether ``form`` means a double backward for these weights."""
    if form == "auto":
        return any(weight.dtype in (torch.bfloat16, torch.float16) for weight in weights)
    return form == "exact"


def hessian_product(
    loss: Loss,
    weights: Sequence[nn.Parameter],
    vector: Tensor,
    *,
    form: Form = "difference",
    radius: float = 0.003,
    here: Tensor | None = None,
) -> Tensor:
    """The Hessian of a loss times ``vector``, (P,).

    Args:
        loss: computes the scalar anew at each call.
        weights: what to differentiate by.
        vector: (P,).
        form: a double backward, which needs :func:`double_backward` around it, or the difference
            of the gradients here and ``radius`` away along ``vector``, which is off by a term of
            the order of ``radius``.
        radius: length of the displacement, in the units of the weights.
        here: the gradient at the weights, if it is known already.
    """
    if exact(form, weights):
        parts = torch.autograd.grad(loss(), weights, create_graph=True, allow_unused=True)
        products = [
            (_single(part) * piece).sum()
            for part, piece in zip(parts, _pieces(vector, weights), strict=True)
            if part is not None
        ]
        return gradient(torch.stack(products).sum(), weights)
    length = float(vector.norm())
    if length == 0.0:
        return torch.zeros_like(vector)
    step = radius / length
    with displaced(weights, vector, step):
        ahead = gradient(loss(), weights)
    start = gradient(loss(), weights) if here is None else here
    return ahead.sub_(start).div_(step)


def add_hessian_product(
    loss: Loss,
    weights: Sequence[nn.Parameter],
    vector: Tensor,
    *,
    scale: float,
    here: Tensor,
    form: Form = "difference",
    radius: float = 0.003,
) -> None:
    """Add ``scale`` times :func:`hessian_product` to ``.grad``.

    ``weights`` are all that train. In single precision the gradient at the displaced weights goes
    straight to ``.grad``: of a large model the vectors in between cost more than the pass itself.
    """
    length = float(vector.norm())
    if exact(form, weights) or any(weight.dtype != vector.dtype for weight in weights):
        product = hessian_product(loss, weights, vector, form=form, radius=radius, here=here)
        deposit(weights, product, scale)
    elif length > 0.0:
        step = radius / length
        deposit(weights, here, -scale / step)
        with displaced(weights, vector, step):
            (loss() * (scale / step)).backward()


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Inside, dropout is off: the difference of two gradients must not be that of two masks."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def double_backward(model: Any) -> Iterator[None]:
    """Inside, attention has a second derivative: the math kernel of SDPA, or eager code.

    Flash and memory-efficient kernels have a first derivative only.
    """
    chosen = getattr(getattr(model, "config", None), "_attn_implementation", "eager")
    log = logging.getLogger(__name__)
    if chosen in ("sdpa", "eager"):
        log.debug("attention %s with the math kernel, for a double backward", chosen)
        with sdpa_kernel(SDPBackend.MATH):
            yield
        return
    log.info("attention goes from %s to eager, for a double backward", chosen)
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(chosen)
