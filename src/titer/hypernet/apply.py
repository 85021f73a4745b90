"""Putting an edit on a model for a while. No weight is written and no hook stays.

B rows, T tokens, P patches: 1, which all rows share, or B, one a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from titer.core.errors import BadInput
from titer.hypernet.sites import Site, located

__all__ = [
    "Attaches",
    "Patch",
    "Tensors",
    "applied",
    "on_input",
    "on_output",
    "rows",
    "times",
]

Tensors = Mapping[str, Tensor]
"""What an edit is made of at one site: by name, (P, slots, width)."""

Patch = Mapping[Site, Tensors]
"""A whole edit."""


class Attaches(Protocol):
    """The side of an edit family that acts on a model."""

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]: ...


@contextmanager
def applied(model: nn.Module, edit: Attaches, patch: Patch) -> Iterator[None]:
    """Inside, ``model`` runs with the patch; afterwards, errors included, it is what it was.

    Gradients flow into the patch's tensors. Contexts nest, over the same layers too.

    Raises:
        BadInput: a site is not in this model.
    """
    with ExitStack() as stack:
        modules = located(model, list(patch))
        for module, tensors in zip(modules, patch.values(), strict=True):
            for handle in edit.attach(model, module, tensors):
                stack.callback(handle.remove)
        yield


def on_input(module: nn.Module, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Change what a module reads."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(inputs[0]), *inputs[1:])

    return module.register_forward_pre_hook(hook)


def on_output(module: nn.Module, change: Callable[[Any, Tensor], Tensor]) -> RemovableHandle:
    """Change what a module puts out, given its input and output; of a tuple, the first member."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(inputs[0], output[0]), *output[1:])
        return change(inputs[0], output)

    return module.register_forward_hook(hook)


def times(x_BTD: Tensor, rows_PRD: Tensor) -> Tensor:
    """Products of every token with each slot, (B, T, R)."""
    rows_PRD = rows_PRD.to(x_BTD.dtype)
    return x_BTD @ (rows_PRD[0] if len(rows_PRD) == 1 else rows(rows_PRD, x_BTD)).mT


def low_rank(y_BTO: Tensor, x_BTI: Tensor, tensors: Tensors) -> Tensor:
    """``y + x Uᵀ V``, with U and V called ``u`` and ``v``; rows counted if they are to be."""
    u_PRI, v_PRO = tensors["u"], tensors["v"]
    if isinstance(tensors, Counted):
        return _Counted.apply(y_BTO, x_BTI, u_PRI[0], v_PRO[0], tensors.rows)  # type: ignore[no-untyped-call, return-value]
    h_BTR = times(x_BTI, u_PRI)
    if len(v_PRO) > 1:
        return y_BTO + h_BTR @ rows(v_PRO, x_BTI)
    y_NO, h_NR = y_BTO.flatten(0, -2), h_BTR.flatten(0, -2)
    return torch.addmm(y_NO, h_NR, v_PRO[0].to(y_NO.dtype)).view_as(y_BTO)


class Counted(dict[str, Tensor]):
    """A low-rank update that all rows share and whose gradient counts each of them by a weight, in
    ``rows`` (B,), which may be filled in until the backward pass. What flows back to activations
    and to the model's weights is not touched."""

    def __init__(self, tensors: Tensors, rows: Tensor) -> None:
        super().__init__(tensors)
        self.rows = rows


class _Counted(torch.autograd.Function):
    """See :class:`Counted`; without it each row would need a copy of the update."""

    @staticmethod
    def forward(
        ctx: Any, y_BTO: Tensor, x_BTI: Tensor, u_RI: Tensor, v_RO: Tensor, rows_B: Tensor
    ) -> Tensor:
        u_RI, v_RO = u_RI.to(x_BTI.dtype), v_RO.to(x_BTI.dtype)
        h_NR = x_BTI.flatten(0, -2) @ u_RI.mT
        ctx.save_for_backward(x_BTI, u_RI, v_RO, h_NR)
        ctx.rows = rows_B  # not saved: it is not known yet
        return torch.addmm(y_BTO.flatten(0, -2), h_NR, v_RO).view_as(y_BTO)

    @staticmethod
    def backward(ctx: Any, *back: Tensor) -> tuple[Tensor | None, ...]:
        (g_BTO,) = back
        x_BTI, u_RI, v_RO, h_NR = ctx.saved_tensors
        g_NO, x_NI = g_BTO.flatten(0, -2), x_BTI.flatten(0, -2)
        gh_NR = g_NO @ v_RO.mT
        each_N1 = ctx.rows.to(g_NO.dtype).repeat_interleave(len(g_NO) // len(ctx.rows))[:, None]
        to_x = (gh_NR @ u_RI).view_as(x_BTI) if ctx.needs_input_grad[1] else None
        return g_BTO, to_x, (gh_NR * each_N1).mT @ x_NI, (h_NR * each_N1).mT @ g_NO, None


def rows(tensor: Tensor, x_BTD: Tensor) -> Tensor:
    """``tensor`` (P, …), made sure to fit the rows of ``x``.

    Raises:
        BadInput: there are several patches, and not one a row.
    """
    if len(tensor) not in (1, len(x_BTD)):
        raise BadInput(
            f"{len(tensor)} patches do not fit a batch of {len(x_BTD)} rows; "
            "patches of single prompts go with the batch they were made for."
        )
    return tensor.to(x_BTD.dtype)
