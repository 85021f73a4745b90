"""Uniform access to a transformer's matrices, for edits without training.

Axes: O output, I input, D width of the residual stream. Edits are in place: work on a clone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.hooks import blocks

__all__ = ["Linear", "Moments", "embeddings", "linears", "moments", "untie", "writers"]

_WRITERS = {
    "o_proj",
    "down_proj",
    "c_proj",
    "out_proj",
    "dense",
    "fc2",
    "dense_4h_to_h",
}
"""Last part of the name of matrices whose output is added to the residual stream."""


@dataclass(frozen=True)
class Linear:
    """One linear map inside a block. ``path`` is ``3.mlp.down_proj``: block, then name inside."""

    path: str
    layer: int
    module: Any

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def weight_OI(self) -> Tensor:
        """The weight, output axis first: a view without gradient, so that edits reach the model.

        GPT-2 stores it the other way round.
        """
        weight = self.module.weight.detach()
        return weight if isinstance(self.module, nn.Linear) else weight.T

    @property
    def bias_O(self) -> Tensor | None:
        """The bias as a view without gradient, or None."""
        bias = getattr(self.module, "bias", None)
        return None if bias is None else bias.detach()


def linears(model: nn.Module, layers: Sequence[int] | None = None) -> list[Linear]:
    """Every linear map of the (given) blocks, first to last.

    Raises:
        BadInput: the architecture keeps its matrices in something else.
    """
    found = [
        Linear(f"{index}.{name}", index, module)
        for index, block in enumerate(blocks(model))
        if layers is None or index in layers
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    ]
    if not found and (layers is None or len(layers)):
        raise BadInput(f"the blocks of {type(model).__name__} hold no linear layers to edit.")
    return found


def writers(model: nn.Module) -> list[Linear]:
    """The matrices that write to the residual stream: of each block, attention's and the MLP's.

    Raises:
        BadInput: some block has fewer than two of them.
    """
    config: Any = model.config
    width = int(config.hidden_size)
    found = [
        linear
        for linear in linears(model)
        if linear.name in _WRITERS and linear.weight_OI.shape[0] == width
    ]
    for layer in range(len(blocks(model))):
        if sum(linear.layer == layer for linear in found) < 2:
            raise BadInput(
                f"block {layer} of {type(model).__name__} has no attention and MLP output of a "
                "known name; directions cannot be taken out of its weights."
            )
    return found


def embeddings(model: nn.Module) -> list[nn.Embedding]:
    """The tables whose rows start the residual stream: tokens, and learned places if any."""
    config: Any = model.config
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return [table for table in tables if table.embedding_dim == config.hidden_size]


def untie(lm: LM) -> None:
    """Give the head weights of its own, where it shares the embedding's. The function stays.

    An edit of the embedding would otherwise be one of the head as well.
    """
    model = lm.model
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not table.weight:
        return
    own = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    head.weight = own
    model.config.tie_word_embeddings = False
    if hasattr(model, "all_tied_weights_keys"):
        model.all_tied_weights_keys = {}


class Moments:
    """Second moments of the inputs of linear maps, over real tokens.

    ``sums[path]`` is Σ x xᵀ, (I, I) in single precision; ``tokens`` counts the terms. Set ``mask``
    (B, T) before each forward pass.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.tokens = 0
        self.mask: Tensor | None = None

    def watch(self, mask_BT: Tensor) -> None:
        """The next forward pass is over a batch with this mask."""
        self.mask = mask_BT.bool()
        self.tokens += int(self.mask.sum())

    def add(self, path: str, inputs_BTI: Tensor) -> None:
        """Add a batch's inputs of one map."""
        assert self.mask is not None
        rows = inputs_BTI.detach()[self.mask].float()
        product = rows.T @ rows
        self.sums[path] = self.sums[path] + product if path in self.sums else product


@contextmanager
def moments(maps: Sequence[Linear]) -> Iterator[Moments]:
    """Collect the inputs' second moments of these maps in forward passes made inside."""
    seen = Moments()

    def watcher(path: str) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.add(path, inputs[0])

        return keep

    handles = [linear.module.register_forward_pre_hook(watcher(linear.path)) for linear in maps]
    try:
        with torch.no_grad():
            yield seen
    finally:
        for handle in handles:
            handle.remove()
