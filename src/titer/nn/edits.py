"""Uniform access to a transformer's matrices, for edits without training.

Axes: E experts, O output, I input, D width of the residual stream. Edits are in place: work on a
clone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.config import hidden_size, text_config
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.hooks import blocks
from titer.nn.products import owner, products, uses

__all__ = [
    "WRITERS",
    "Linear",
    "Moments",
    "embeddings",
    "linears",
    "moments",
    "parameters",
    "unpadded",
    "untie",
    "writers",
]

WRITERS = {
    "o_proj",
    "down_proj",
    "c_proj",
    "out_proj",
    "dense",
    "fc2",
    "fc_out",
    "dense_4h_to_h",
    "linear_out",
    "w2",
    "wo",
}
"""Last part of the name of matrices whose output is added to the residual stream."""


@dataclass(frozen=True, eq=False)
class Linear:
    """One linear map inside a block, or that of one expert.

    ``path`` is ``3.mlp.down_proj``: block, then name inside, and the expert's number where several
    share a tensor. ``weight`` is the tensor that holds it: (O, I), (I, O) where ``turned``, and
    with the experts' axis before where ``expert`` is one's number. ``module`` owns the tensor.
    """

    path: str
    layer: int
    module: Any
    weight: nn.Parameter
    bias: nn.Parameter | None = None
    turned: bool = False
    expert: int | None = None

    @property
    def name(self) -> str:
        """The last part of the path, an expert's number aside."""
        return self.home.rpartition(".")[2]

    @property
    def home(self) -> str:
        """The path of what holds it: equal for the experts that share a tensor."""
        return self.path if self.expert is None else self.path.rpartition(".")[0]

    def part(self, values: Tensor) -> Tensor:
        """Of a tensor of the weight's shape, such as its gradient, what is this map's: (O, I)."""
        own = values if self.expert is None else values[self.expert]
        return own.T if self.turned else own

    @property
    def weight_OI(self) -> Tensor:
        """The weight, output axis first: a view without gradient, so that edits reach the model."""
        return self.part(self.weight.detach())

    @property
    def bias_O(self) -> Tensor | None:
        """The bias as a view without gradient, or None."""
        if self.bias is None:
            return None
        return self.bias.detach() if self.expert is None else self.bias.detach()[self.expert]


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _maps(layer: int, path: str, module: nn.Module, turned: dict[str, bool]) -> Iterator[Linear]:
    """The maps that a module holds itself."""
    if _is_layer(module):
        held: Any = module
        yield Linear(
            f"{layer}.{path}", layer, held, held.weight, held.bias, not isinstance(held, nn.Linear)
        )
        return
    own = dict(module.named_parameters(recurse=False))
    for name, weight in own.items():
        full = f"{path}.{name}"
        if full not in turned or weight.dim() > 3:
            continue
        # A router's only tensor is called weight, and its path is the router's.
        shown = path if name == "weight" else full
        bias = own.get(f"{name}_bias", own.get("bias") if name == "weight" else None)
        if weight.dim() == 2:
            yield Linear(f"{layer}.{shown}", layer, module, weight, bias, turned[full])
            continue
        for expert in range(weight.shape[0]):
            path_e = f"{layer}.{shown}.{expert}"
            yield Linear(path_e, layer, module, weight, bias, turned[full], expert)


def linears(model: nn.Module, layers: Sequence[int] | None = None) -> list[Linear]:
    """Every linear map of the (given) blocks, first to last: layers, routers, and each expert's.

    What is no layer of its own is known by the products that it takes part in, see
    :mod:`~titer.nn.products`.

    Raises:
        BadInput: the architecture keeps its matrices in something else.
    """
    found: list[Linear] = []
    for index, (block, used) in enumerate(zip(blocks(model), uses(model), strict=True)):
        if layers is not None and index not in layers:
            continue
        turned = {name: use.turned for name, use in used.items() if use.turned is not None}
        for name, module in block.named_modules():
            found += _maps(index, name, module, turned)
    if not found and (layers is None or len(layers)):
        raise BadInput(f"the blocks of {type(model).__name__} hold no linear layers to edit.")
    return found


def parameters(maps: Iterable[Linear]) -> list[nn.Parameter]:
    """The tensors that hold these maps, each once, in their order."""
    return list({id(linear.weight): linear.weight for linear in maps}.values())


def writers(model: nn.Module) -> list[Linear]:
    """The matrices that write to the residual stream: of attention, of the MLP, of each expert.

    Raises:
        BadInput: some block has none.
    """
    width = hidden_size(model.config)
    found = [
        linear
        for linear in linears(model)
        if linear.name in WRITERS and linear.weight_OI.shape[0] == width
    ]
    for layer in range(len(blocks(model))):
        if not any(linear.layer == layer for linear in found):
            raise BadInput(
                f"block {layer} of {type(model).__name__} has no output of a known name; "
                "directions cannot be taken out of its weights."
            )
    return found


def embeddings(model: nn.Module) -> list[nn.Embedding]:
    """The tables whose rows start the residual stream: tokens, and learned places if any."""
    width = hidden_size(model.config)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return [table for table in tables if table.embedding_dim == width]


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
    for config in (model.config, text_config(model.config)):
        config.tie_word_embeddings = False
    if hasattr(model, "all_tied_weights_keys"):
        model.all_tied_weights_keys = {}


class Moments:
    """Second moments of the inputs of linear maps: ``sums[path]`` is Σ x xᵀ, (I, I) in single
    precision, zero where nothing came in; ``seen`` are the paths where something did."""

    def __init__(self, maps: Sequence[Linear]) -> None:
        self.sums: dict[str, Tensor] = {}
        self.seen: set[str] = set()
        self._paths: dict[tuple[int, int, tuple[int, ...]], str] = {}
        for linear in maps:
            own = linear.weight_OI
            part = (id(linear.weight), int(own.storage_offset()), tuple(own.shape))
            self._paths[part] = linear.path
            self.sums[linear.path] = torch.zeros(own.shape[1], own.shape[1], device=own.device)

    def told(self, inputs: Tensor, matrix: Tensor) -> None:
        """Add the inputs (..., N, I) of a product with a matrix (..., O, I), if it is one's."""
        if matrix.dim() == 3 and inputs.dim() == 3 and len(matrix) == len(inputs):
            for one, own in zip(inputs, matrix, strict=True):
                self.told(one, own)
            return
        part = (owner(matrix), int(matrix.storage_offset()), tuple(matrix.shape))
        path = self._paths.get(part)
        if path is not None:
            rows = inputs.detach().reshape(-1, inputs.shape[-1]).float()
            self.sums[path] += rows.T @ rows
            self.seen.add(path)


@contextmanager
def moments(model: nn.Module, maps: Sequence[Linear]) -> Iterator[Moments]:
    """Collect the inputs' second moments of these maps in forward passes made inside.

    Every token counts, so give batches without padding: :func:`unpadded`.
    """
    seen = Moments(maps)
    with products(model, seen.told):
        yield seen


def unpadded(inputs: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A batch padded on the right as batches of rows of equal length."""
    lengths = inputs["attention_mask"].sum(-1)
    for length in lengths.unique():
        rows = lengths == length
        yield {name: values[rows, : int(length)] for name, values in inputs.items()}
