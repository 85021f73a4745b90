"""Which weights of a model take part in matrix products, and how: known by trying, not by name.

A module's class says little. Experts are fused in one tensor, routers are modules of their own
kind, and some layers' weights are read from outside. So a few tokens go through the model, and
every product is seen. O output, I input, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from titer.core.config import context_length, vocab_size
from titer.nn.hooks import blocks

__all__ = ["Use", "few_tokens", "owner", "products", "uses"]

Told = Callable[[Tensor, Tensor], None]
"""Told of the operands of a product, inputs (..., N, I) and a matrix (..., O, I)."""

_LINEAR = {torch.nn.functional.linear}
_MATMUL = {
    torch.matmul,
    torch.mm,
    torch.bmm,
    Tensor.matmul,
    Tensor.mm,
    Tensor.bmm,
    Tensor.__matmul__,
}
_ADDED = {torch.addmm, torch.baddbmm, Tensor.addmm, Tensor.baddbmm}
_TURNED = {Tensor.__rmatmul__}


class _Watch(TorchFunctionMode):
    def __init__(self, told: Told, einsum: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.told, self.einsum = told, einsum

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given: list[Any] = [*args, *(kwargs or {}).values()]
        if func in _LINEAR:
            self.told(given[0], given[1])
        elif func in _MATMUL:
            self._both(given[0], given[1])
        elif func in _ADDED:
            self._both(given[1], given[2])
        elif func in _TURNED:
            self._both(given[1], given[0])
        elif func is torch.einsum:
            for one in given[1:]:
                for operand in one if isinstance(one, list | tuple) else (one,):
                    self.einsum(operand)
        return out

    def _both(self, left: Tensor, right: Tensor) -> None:
        """Either operand may be the weight."""
        if left.dim() > 1 and right.dim() > 1:
            self.told(left, right.mT)
            self.told(right.mT, left)


@contextmanager
def products(
    model: Any, told: Told, einsum: Callable[[Tensor], None] | None = None
) -> Iterator[None]:
    """Inside, ``told`` of every product of two matrices, and ``einsum`` of each operand of one.

    Experts run one by one for the time, so that each product is that of one expert's tokens.
    """
    ways = getattr(model, "get_experts_implementation", dict)()
    try:
        if ways:
            model.set_experts_implementation("eager")
        with torch.no_grad(), _Watch(told, einsum or (lambda _: None)):
            yield
    finally:
        if ways:
            model.set_experts_implementation(ways)


def few_tokens(model: Any, count: int = 8, rows: int = 1) -> dict[str, Tensor]:
    """A small input on which something can be tried."""
    words = vocab_size(model.config)
    device = next(model.parameters()).device
    count = min(count, context_length(model.config))
    ids = torch.arange(rows * count, device=device).view(rows, count) * 7 % words
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def owner(tensor: Tensor) -> int:
    """Whose view a tensor is, by identity; its own where it is none."""
    base: Any = tensor._base if tensor._is_view() else tensor  # noqa: SLF001
    return id(tensor if base is None else base)


@dataclass(frozen=True)
class Use:
    """What a tensor of a block does.

    ``turned``: it is kept as (I, O), where that is known. ``multiplies``: it takes part in a
    product. ``called``: its module was run, so that a layer put in its place would be.
    """

    turned: bool | None = None
    multiplies: bool = False
    called: bool = False


_KNOWN: dict[tuple[type, str, str], Use] = {}
"""By the block's class, the tensor's name in it and the kind of device."""


def uses(model: Any) -> list[dict[str, Use]]:
    """Of each block, its tensors of two axes or more by name. Tried once for each kind of block.

    An expert that no token went to looks as if it did nothing; fused ones are seen together.
    """
    device = next(model.parameters()).device.type
    found = blocks(model)
    names = [
        [name for name, weight in block.named_parameters() if weight.dim() > 1] for block in found
    ]
    keys = [
        [(type(block), name, device) for name in own]
        for block, own in zip(found, names, strict=True)
    ]
    if any(key not in _KNOWN for own in keys for key in own):
        _try(model, device)
    return [
        {name: _KNOWN[key] for name, key in zip(own, ids, strict=True)}
        for own, ids in zip(names, keys, strict=True)
    ]


def _try(model: Any, device: str) -> None:
    places: dict[int, tuple[type, str, str]] = {}
    weights: dict[int, nn.Parameter] = {}
    called: set[tuple[type, str, str]] = set()
    handles: list[Any] = []
    for block in blocks(model):
        for path, module in block.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if weight.dim() < 2:
                    continue
                key = (type(block), f"{path}.{name}" if path else name, device)
                _KNOWN.setdefault(key, Use())
                places[id(weight)], weights[id(weight)] = key, weight
                handles.append(
                    module.register_forward_pre_hook(lambda _m, _i, key=key: called.add(key))
                )
    turned: dict[tuple[type, str, str], bool | None] = {}

    def told(_inputs: Tensor, matrix: Tensor) -> None:
        at = owner(matrix)
        if at in places and matrix.dim() <= weights[at].dim():
            # A view knows by its strides which axis of the weight it was.
            turned[places[at]] = matrix.stride(-1) != weights[at].stride(-1)

    def mixed(operand: Tensor) -> None:
        at = owner(operand)
        if at in places:
            turned.setdefault(places[at], None)

    training = model.training
    model.eval()
    try:
        with products(model, told, mixed):
            model(**few_tokens(model), use_cache=False)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    for key in places.values():
        was = _KNOWN[key]
        seen = key in turned
        _KNOWN[key] = Use(
            turned=turned.get(key) if seen else was.turned,
            multiplies=seen or was.multiplies,
            called=key in called or was.called,
        )
