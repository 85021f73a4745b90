"""Layers with K sets of weights: the rows of a batch are grouped by member, K·B of them.

N tokens a member, I and O a layer's widths, R rank, V vocabulary, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Adapted",
    "AdaptedBlock",
    "StackedEmbedding",
    "StackedLinear",
    "StackedLora",
    "StackedNorm",
    "is_conv1d",
    "is_plain",
]

Read = Callable[[], Tensor]
"""Gives the present members' weights, (K, ...)."""


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's linear layer, which keeps its weight as (I, O)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


class _Layer(nn.Module):
    """Stands in for ``inner`` for a while; what it does not know, ``inner`` answers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class StackedLinear(_Layer):
    """``nn.Linear`` or Conv1D whose weight, bias or both are the members' own; what is not is
    shared."""

    def __init__(self, inner: nn.Module, weight: Read | None, bias: Read | None) -> None:
        super().__init__(inner)
        self.own_weight, self.own_bias = weight, bias
        self.transposed = is_conv1d(inner)

    def forward(self, x: Tensor) -> Tensor:
        inner: Any = self.inner
        shared = inner.bias
        if self.own_weight is None:
            assert self.own_bias is not None
            bias_KO = self.own_bias()
            plain = x @ inner.weight if self.transposed else F.linear(x, inner.weight)
            members = bias_KO.shape[0]
            return (plain.view(members, -1, plain.shape[-1]) + bias_KO[:, None]).view(plain.shape)
        weight_KIO = self.own_weight() if self.transposed else self.own_weight().mT
        members = weight_KIO.shape[0]
        x_KNI = x.reshape(members, -1, x.shape[-1])
        if self.own_bias is not None:
            out = torch.baddbmm(self.own_bias()[:, None], x_KNI, weight_KIO)
        else:
            out = torch.bmm(x_KNI, weight_KIO)
            out = out if shared is None else out + shared
        return out.view(*x.shape[:-1], out.shape[-1])


class StackedLora(_Layer):
    """A frozen linear layer plus K low-rank adapters, ``x W + s (x Aᵀ) Bᵀ``.

    Adapters kept in a finer type than the layer are applied in theirs, as PEFT does.
    """

    def __init__(self, inner: nn.Module, first: Read, second: Read, scale: Read) -> None:
        super().__init__(inner)
        self.first, self.second, self.scale = first, second, scale

    def forward(self, x: Tensor) -> Tensor:
        base: Tensor = self.inner(x)
        a_KRI, b_KOR, scale_K11 = self.first(), self.second(), self.scale()
        members = a_KRI.shape[0]
        x_KNI = x.reshape(members, -1, x.shape[-1]).to(a_KRI.dtype)
        low_KNR = torch.bmm(x_KNI, a_KRI.mT) * scale_K11
        base_KNO = base.view(members, -1, base.shape[-1])
        if base.dtype == a_KRI.dtype:
            out = torch.baddbmm(base_KNO, low_KNR, b_KOR.mT)
        else:
            out = base_KNO + torch.bmm(low_KNR, b_KOR.mT).to(base.dtype)
        return out.view(base.shape)


@dataclass(frozen=True)
class Adapted:
    """A tensor of a block, by its name there, and its adapter of one member: A (1, [E,] R, I) and
    B (1, [E,] O, R). ``turned``: the tensor is kept as (I, O)."""

    name: str
    weight: nn.Parameter
    first: Read
    second: Read
    turned: bool


class AdaptedBlock(_Layer):
    """A block some of whose tensors are ``W + s B A`` while it runs: fused experts, and layers that
    are read from outside or do more than a product. For one member alone, since rows of a batch
    lose their order on the way to experts. The sum is held in memory, as PEFT holds it.
    """

    def __init__(self, inner: nn.Module, adapted: Sequence[Adapted], scale: Read) -> None:
        super().__init__(inner)
        self.adapted, self.scale = tuple(adapted), scale

    def forward(self, *args: Any, **more: Any) -> Any:
        changed = {one.name: self._sum(one) for one in self.adapted}
        return torch.func.functional_call(self.inner, changed, args, more)

    def _sum(self, one: Adapted) -> Tensor:
        change = (one.second() @ one.first())[0] * self.scale()[0, 0, 0]
        return one.weight + (change.mT if one.turned else change).to(one.weight.dtype)


def is_plain(module: nn.Module) -> bool:
    """Whether a layer gives the product with its weight and nothing else: stock ones, and those of
    a class of their own that do on a row of numbers."""
    if is_conv1d(module) or type(module).forward is nn.Linear.forward:
        return True
    layer: Any = module
    row_1I = torch.linspace(-1, 1, layer.in_features)[None].to(layer.weight)
    try:
        with torch.no_grad():
            found: Any = type(module).forward(module, row_1I)
            wanted = F.linear(row_1I, layer.weight, layer.bias)
    except Exception:  # it takes other things than rows
        return False
    return isinstance(found, Tensor) and torch.allclose(found, wanted, rtol=1e-3, atol=1e-5)


class StackedEmbedding(_Layer):
    """K look-up tables. Positions too must come row by row: one row for all names no member."""

    def __init__(self, inner: nn.Module, weight: Read) -> None:
        super().__init__(inner)
        self.own = weight

    def forward(self, ids: Tensor) -> Tensor:
        weight_KVD = self.own()
        members, words, width = weight_KVD.shape
        offset = torch.arange(members, device=ids.device) * words
        shifted = ids.reshape(members, -1) + offset[:, None]
        out = F.embedding(shifted, weight_KVD.reshape(members * words, width))
        return out.view(*ids.shape, width)


class StackedNorm(_Layer):
    """A norm that ends in a gain and perhaps a bias: run plainly, then scaled by the members'."""

    def __init__(self, inner: nn.Module, weight: Read | None, bias: Read | None) -> None:
        super().__init__(inner)
        self.own_weight, self.own_bias = weight, bias
        plain: Any = copy.deepcopy(inner)
        with torch.no_grad():
            if weight is not None:
                plain.weight.fill_(1.0)
            if bias is not None:
                plain.bias.zero_()
        # Not a submodule: it has no weights of its own to list.
        self.plain = (plain.requires_grad_(False),)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.plain[0](x)
        grouped = out
        for own, times in ((self.own_weight, True), (self.own_bias, False)):
            if own is not None:
                value_KD = own()
                grouped = grouped.reshape(value_KD.shape[0], -1, out.shape[-1])
                value = value_KD[:, None]
                grouped = grouped * value if times else grouped + value
        return grouped.view(out.shape)
