"""What writes to the residual stream, and whether a change of it arrives there: tried, since no
name tells. D width of the stream.

A matrix's output may pass a norm before it is added, and a token's embedding another one. To take
a direction out of what a norm gives, another one must go from what it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from titer.core.config import hidden_size
from titer.nn.edits import Linear, writers
from titer.nn.hooks import blocks, residual_stream
from titer.nn.products import few_tokens

__all__ = ["Norm", "Source", "arrived", "remaining", "sources", "table_norm"]


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm between what writes and the stream: ``g ⊙ (y − mean) / size + b``, the mean only where
    it is ``centred``. ``gain_D`` is g up to a factor, read off what the module does."""

    module: Any
    gain_D: Tensor
    centred: bool

    @property
    def bias_D(self) -> Tensor | None:
        """Its bias as a view without gradient, or None."""
        bias = getattr(self.module, "bias", None)
        return None if bias is None else bias.detach()

    def before(self, basis_KD: Tensor) -> Tensor:
        """The directions to take out of its input, so that ``basis_KD`` leaves its output but for
        the bias; of the same span, orthonormal."""
        behind = basis_KD * self.gain_D.to(basis_KD)
        if self.centred:
            behind = behind - behind.mean(-1, keepdim=True)
        return torch.linalg.qr(behind.T)[0].T


@dataclass(frozen=True, eq=False)
class Source:
    """A matrix that writes to the stream, with the norm that its output passes, if it does."""

    linear: Linear
    norm: Norm | None


@torch.no_grad()
def _norm(module: Any, width: int) -> Norm | None:
    """What the module does to vectors, if it is a norm of this width."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.shape != (width,):
        return None
    y_1D = torch.ones(1, width, device=weight.device, dtype=weight.dtype)
    y_1D[:, ::2] = -1
    bias = getattr(module, "bias", None)
    offset = 0.0 if bias is None else bias

    def scaled(values: Tensor) -> Tensor:
        found: Tensor = module(values) - offset
        return found.float()

    try:
        plain, moved = scaled(y_1D), scaled(y_1D + 2)
    except Exception:  # a module of another kind takes other things
        return None
    centred = torch.allclose(plain, moved, rtol=1e-3, atol=1e-5)
    given = y_1D - y_1D.mean() if centred else y_1D
    return Norm(module, (plain / given)[0], centred)


_FOUND: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
"""By model, the norm after each module that has one, both by name."""


def _norms_after(model: Any) -> dict[str, str]:
    if model not in _FOUND:
        _FOUND[model] = _look(model)
    return _FOUND[model]


@torch.no_grad()
def _look(model: Any) -> dict[str, str]:
    """Which module's output is, as it is, what a norm is given."""
    width = hidden_size(model.config)
    inside = {id(block) for block in blocks(model)}
    given: dict[tuple[int, int], str] = {}
    made: dict[str, tuple[int, int]] = {}
    kept: list[Tensor] = []  # or the next tensor could lie where a former one lay

    def place(value: Any) -> tuple[int, int] | None:
        tensor = value[0] if isinstance(value, tuple) and value else value
        if not isinstance(tensor, Tensor):
            return None
        kept.append(tensor)
        return tensor.data_ptr(), tensor.numel()

    def enter(name: str, inputs: tuple[Any, ...]) -> None:
        if inputs and (at := place(inputs[0])) is not None:
            given[at] = name

    def leave(name: str, output: Any) -> None:
        if (at := place(output)) is not None:
            made[name] = at

    handles: list[Any] = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.shape == (width,):
            handles.append(
                module.register_forward_pre_hook(lambda _m, i, name=name: enter(name, i))
            )
        elif id(module) not in inside:  # what a block gives is the stream
            handles.append(
                module.register_forward_hook(lambda _m, _i, o, name=name: leave(name, o))
            )
    training = model.training
    model.eval()
    try:
        model(**few_tokens(model), use_cache=False)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return {name: given[at] for name, at in made.items() if at in given}


def sources(model: Any) -> list[Source]:
    """Every matrix that writes to the stream, first to last.

    Raises:
        BadInput: some block has none of a known name.
    """
    names = {id(module): name for name, module in model.named_modules()}
    homes = {index: names[id(block)] for index, block in enumerate(blocks(model))}
    after, width = _norms_after(model), hidden_size(model.config)
    norms: dict[str, Norm | None] = {}
    found: list[Source] = []
    written = writers(model)
    routed = {linear.layer for linear in written if linear.expert is not None}
    for linear in written:
        name, norm = names[id(linear.module)], None
        home = f"{homes[linear.layer]}."
        while name.startswith(home) and norm is None:
            # What a block adds is normed inside it; what the next one reads is the stream.
            if (behind := after.get(name, "")).startswith(home):
                if behind not in norms:
                    norms[behind] = _norm(model.get_submodule(behind), width)
                norm = norms[behind]
            # Experts' outputs are summed first, and what gives the sum is further out. Elsewhere
            # that may be a module that has added the stream already (Bloom).
            name = name.rpartition(".")[0] if linear.layer in routed else ""
        found.append(Source(linear, norm))
    return found


def table_norm(model: Any, table: nn.Module) -> Norm | None:
    """The norm that what is looked up in a table passes at once, if it does."""
    name = next(name for name, module in model.named_modules() if module is table)
    behind = _norms_after(model).get(name)
    within = {id(part) for block in blocks(model) for part in block.modules()}
    if behind is None or id(norm := model.get_submodule(behind)) in within:
        return None
    return _norm(norm, hidden_size(model.config))


@contextmanager
def _streams(model: Any) -> Iterator[list[Tensor]]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), residual_stream(model) as seen:
            yield seen
    finally:
        model.train(training)


def _stream(model: Any) -> list[Tensor]:
    """What enters the first block and what leaves each, for a few tokens."""
    with _streams(model) as seen:
        model(**few_tokens(model, 8, 2), use_cache=False)
        return [values.float() for values in seen]


def remaining(before: Any, after: Any, basis_KD: Tensor) -> float:
    """The share of a subspace that is left in the stream of ``after``, of what ``before`` had
    there, by length, at the place where most is left."""
    shares: list[float] = []
    for was, now in zip(_stream(before), _stream(after), strict=True):
        basis = basis_KD.to(was)
        size = float((was @ basis.T).norm())
        shares.append(float((now @ basis.T).norm()) / max(size, 1e-12))
    return min(1.0, max(shares))


def arrived(before: Any, after: Any, place: int, vector_D: Tensor) -> float:
    """The share of a vector added to the stream that is really there: 1 minus how far the change
    at ``place`` (0 before the first block) is from it, as a share of its length; at least 0."""
    change = _stream(after)[place] - _stream(before)[place]
    wanted = vector_D.to(change)
    off = float((change - wanted).norm(dim=-1).mean() / wanted.norm().clamp(min=1e-12))
    return max(0.0, 1.0 - off)
