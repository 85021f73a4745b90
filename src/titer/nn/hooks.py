"""Reading activations. Nothing stays attached after a ``with`` block. B rows, T tokens, D width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from titer.core.config import layers
from titer.core.errors import BadInput

__all__ = ["Captured", "Enough", "blocks", "residual", "residual_after", "residual_stream"]


def blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks of any Hugging Face causal LM, first to last.

    Raises:
        BadInput: the architecture keeps its blocks in no list of the configured length.
    """
    depth = layers(model.config)
    table = getattr(model, "get_input_embeddings", lambda: None)()
    lists: list[nn.ModuleList] = []
    for home in model.modules():
        own = [
            part
            for part in home.children()
            if isinstance(part, nn.ModuleList) and len(part) == depth
        ]
        # A model that also sees has other lists; the blocks stand beside the table of tokens.
        if own and any(part is table for part in home.children()):
            return own[0]
        lists += own
    if lists:
        return lists[0]
    raise BadInput(
        f"{type(model).__name__} keeps no list of {depth} blocks; "
        "representation methods need a stock transformer."
    )


class Enough(Exception):
    """Ends a forward pass once the wanted activation has been seen."""


class Captured:
    """Holds what the hook saw last: ``hidden`` is (B, T, D)."""

    hidden: Tensor


@contextmanager
def residual_after(model: nn.Module, layer: int, *, stop: bool = False) -> Iterator[Captured]:
    """Capture the residual stream after block ``layer`` (from 0) of forward passes made inside.

    With ``stop`` the forward pass ends there by an exception, which :func:`residual` catches.

    Raises:
        BadInput: the model has no such block.
    """
    found = blocks(model)
    if not 0 <= layer < len(found):
        raise BadInput(f"layer {layer} does not exist; the model has blocks 0 to {len(found) - 1}.")
    seen = Captured()

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.hidden = output[0] if isinstance(output, tuple) else output
        if stop:
            raise Enough

    handle = found[layer].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def residual(model: Any, inputs: dict[str, Tensor], layer: int) -> Tensor:
    """The residual stream (B, T, D) after block ``layer``; later blocks are not computed."""
    with residual_after(model, layer, stop=True) as seen, suppress(Enough):
        model(**inputs, use_cache=False)
    return seen.hidden


@contextmanager
def residual_stream(model: nn.Module) -> Iterator[list[Tensor]]:
    """Capture the whole residual stream of the last forward pass made inside.

    The list holds L + 1 tensors (B, T, D): what enters the first block, and what leaves each.
    """
    found = blocks(model)
    seen: list[Tensor] = []

    def enter(_module: nn.Module, inputs: tuple[Any, ...], words: dict[str, Any]) -> None:
        seen[:] = [inputs[0] if inputs else words["hidden_states"]]

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [found[0].register_forward_pre_hook(enter, with_kwargs=True)]
    handles += [block.register_forward_hook(leave) for block in found]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
