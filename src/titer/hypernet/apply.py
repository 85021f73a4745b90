"""Putting an edit on a model for a while. No weight is written and no hook stays.

B rows, T tokens, P patches: 1, which all rows share, or B, one a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from titer.core.errors import BadInput
from titer.hypernet.sites import Site, located

__all__ = ["Attaches", "Patch", "Tensors", "applied", "on_input", "on_output", "rows", "times"]

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
