"""A model in two parts: its own weights, which are public, and a part that is sealed.

Nothing is attached to the model but inside :meth:`Sealed.opened`; outside, it is the unmodified
model. V vocabulary, O output, I input, R rank, U extra units, D width, N tokens.

Source: gradient routing, Cloud et al. 2024, arXiv:2410.04332; a part that is masked on public text
as in Shilov et al. 2025, arXiv:2512.05648. Departs: both give existing units of the network to the
part; here it is added to the network, so that what is left without it is an ordinary model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.hooks import blocks
from titer.nn.stacked import is_conv1d

__all__ = ["Form", "Layout", "LowRank", "Piece", "Sealed"]

Form = Literal["low-rank", "full-rank", "units"]
Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a sealed part consists of.

    ``low-rank``: ``s B A`` beside each matrix, with ``s = alpha / rank``. ``full-rank``: a matrix
    beside each matrix. ``units``: ``units`` more hidden units in every block's MLP. The first two
    go beside every linear layer of the blocks, or those whose path ends in one of ``modules``;
    with ``embeddings`` also beside the token embedding and the head. A weight that is used twice,
    as a head tied to its embedding is, has one delta in both places. ``seed`` draws the start, at
    which every delta is zero.

    Raises:
        BadInput: a size below one, or embeddings for a part made of units.
    """

    form: Form = "low-rank"
    rank: int = 16
    alpha: float = 32.0
    units: int = 64
    embeddings: bool = False
    modules: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.form not in ("low-rank", "full-rank", "units"):
            raise BadInput(
                f"form={self.form!r} is no sealed part; give low-rank, full-rank or units."
            )
        if self.rank < 1 or self.units < 1 or not 0 < self.alpha < math.inf:
            raise BadInput(
                f"rank={self.rank}, units={self.units}, alpha={self.alpha}; all must be positive."
            )
        if self.form == "units" and (self.embeddings or self.modules):
            raise BadInput(
                "units sit in the MLPs: embeddings and modules go with low-rank or full-rank."
            )


class Piece(Protocol):
    """What a sealed part adds in one place, or in two that share a weight."""

    @property
    def weights(self) -> list[nn.Parameter]:
        """What trains."""
        ...

    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        """Where it is added, and how."""
        ...

    def fold(self, twin: Callable[[nn.Module], Any]) -> None:
        """Write it into a copy of the model; ``twin`` finds a module's copy."""
        ...


class _Beside:
    """What deltas beside a matrix have in common: the layers that read it, by path."""

    def __init__(self, readers: dict[str, nn.Module]) -> None:
        self.readers = readers

    @property
    def paths(self) -> list[str]:
        return list(self.readers)

    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            return output + self.added(module, inputs[0]).to(output.dtype)

        return [(module, hook) for module in self.readers.values()]

    def added(self, module: nn.Module, x: Tensor) -> Tensor:
        """What the delta adds to a layer's output."""
        raise NotImplementedError

    def change(self) -> Tensor:
        """The delta, in the weight's own shape."""
        raise NotImplementedError

    @torch.no_grad()
    def fold(self, twin: Callable[[nn.Module], Any]) -> None:
        # Readers share one weight, so it is changed once.
        weight = twin(next(iter(self.readers.values()))).weight
        weight.add_(self.change().to(weight.dtype))


class LowRank(_Beside):
    """``s B A`` beside a weight (O, I): ``a_RI`` is drawn, ``b_OR`` starts at zero.

    A token embedding is read as a matrix of V outputs and D inputs, which is what the head makes of
    it too.
    """

    def __init__(self, readers: dict[str, nn.Module], layout: Layout, generator: Any) -> None:
        super().__init__(readers)
        first: Any = next(iter(readers.values()))
        self.transposed = is_conv1d(first)
        wide, narrow = first.weight.shape[::-1] if not self.transposed else first.weight.shape
        bound = 1.0 / math.sqrt(wide)
        drawn = torch.empty(layout.rank, wide).uniform_(-bound, bound, generator=generator)
        self.scale = layout.alpha / layout.rank
        self.a_RI = _parameter(drawn, first.weight)
        self.b_OR = _parameter(torch.zeros(narrow, layout.rank), first.weight)

    @property
    def weights(self) -> list[nn.Parameter]:
        return [self.a_RI, self.b_OR]

    def added(self, module: nn.Module, x: Tensor) -> Tensor:
        if isinstance(module, nn.Embedding):
            return self.scale * (F.embedding(x, self.b_OR) @ self.a_RI)
        return F.linear(self.scale * F.linear(x.to(self.a_RI.dtype), self.a_RI), self.b_OR)

    def change(self) -> Tensor:
        change_OI = self.scale * (self.b_OR @ self.a_RI)
        return change_OI.T if self.transposed else change_OI


class _FullRank(_Beside):
    """A matrix beside a weight, of its shape, zero at the start."""

    def __init__(self, readers: dict[str, nn.Module]) -> None:
        super().__init__(readers)
        first: Any = next(iter(readers.values()))
        self.delta = _parameter(torch.zeros(first.weight.shape), first.weight)

    @property
    def weights(self) -> list[nn.Parameter]:
        return [self.delta]

    def added(self, module: nn.Module, x: Tensor) -> Tensor:
        if isinstance(module, nn.Embedding):
            return F.embedding(x, self.delta)
        x = x.to(self.delta.dtype)
        return x @ self.delta if is_conv1d(module) else F.linear(x, self.delta)

    def change(self) -> Tensor:
        return self.delta


class _Units:
    """U more hidden units in an MLP: rows of the matrices that read the stream, columns of the one
    that writes to it. The columns start at zero."""

    def __init__(self, mlp: Any, layout: Layout, generator: Any) -> None:
        self.mlp = mlp
        self.up, self.down, self.act = _mlp(mlp)
        self.rows: list[nn.Parameter] = []
        self.biases: list[nn.Parameter | None] = []
        for linear in self.up:
            width = _wide(linear)
            drawn = torch.randn(layout.units, width, generator=generator)
            spread = float(linear.weight.detach().float().std())
            self.rows.append(_parameter(spread * drawn, linear.weight))
            bias = None if linear.bias is None else torch.zeros(layout.units)
            self.biases.append(None if bias is None else _parameter(bias, linear.weight))
        self.columns_DU = _parameter(
            torch.zeros(_narrow(self.down), layout.units), self.down.weight
        )

    @property
    def weights(self) -> list[nn.Parameter]:
        return [*self.rows, *(bias for bias in self.biases if bias is not None), self.columns_DU]

    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            x = inputs[0].to(self.columns_DU.dtype)
            read = [F.linear(x, w, b) for w, b in zip(self.rows, self.biases, strict=True)]
            hidden = self.act(read[0]) if len(read) == 1 else self.act(read[0]) * read[1]
            return output + F.linear(hidden, self.columns_DU).to(output.dtype)

        return [(self.mlp, hook)]

    @torch.no_grad()
    def fold(self, twin: Callable[[nn.Module], Any]) -> None:
        for linear, rows, bias in zip(self.up, self.rows, self.biases, strict=True):
            _widen(twin(linear), rows, bias, side=0)
        _widen(twin(self.down), self.columns_DU, None, side=1)
        copy = twin(self.mlp)
        if hasattr(copy, "intermediate_size"):
            copy.intermediate_size += len(self.rows[0])


class Sealed:
    """A model, and a part that can be masked, trained, merged and taken away.

    ``lm`` is the model that was given, never changed but by training: without :meth:`opened` it is
    the keyless model. ``pieces`` hold the part.

    Raises:
        BadInput: ``modules`` match nothing, or MLPs of an unknown kind are to get units.
    """

    def __init__(self, lm: LM, layout: Layout) -> None:
        self.lm, self.layout = lm, layout
        generator = torch.Generator().manual_seed(layout.seed % 2**63)
        self.pieces: list[Piece] = _pieces(lm, layout, generator)

    @property
    def weights(self) -> list[nn.Parameter]:
        """What is sealed."""
        return [weight for piece in self.pieces for weight in piece.weights]

    @property
    def public(self) -> list[nn.Parameter]:
        """The model's own weights."""
        return list(self.lm.model.parameters())

    def size(self) -> int:
        """How many numbers are sealed."""
        return sum(weight.numel() for weight in self.weights)

    @contextmanager
    def opened(self) -> Iterator[LM]:
        """Inside, ``lm`` answers with the sealed part added; afterwards nothing stays."""
        handles = [
            module.register_forward_hook(hook)
            for piece in self.pieces
            for module, hook in piece.hooks()
        ]
        try:
            yield self.lm
        finally:
            for handle in handles:
                handle.remove()

    def keyless(self) -> LM:
        """A copy of the model without the part."""
        return self.lm.clone()

    def merged(self) -> LM:
        """A copy of the model with the part written into its weights: an ordinary model, wider by
        ``units`` where the part is units.

        Equal to the opened model but for rounding.
        """
        out = self.lm.clone()
        twins = dict(zip(self.lm.model.modules(), out.model.modules(), strict=True))
        for piece in self.pieces:
            piece.fold(lambda module: twins[module])
        if self.layout.form == "units":
            _resize(out.model.config, self.layout.units)
        return out


# -- where pieces go -----------------------------------------------------------------------------


def _parameter(values: Tensor, like: Tensor) -> nn.Parameter:
    """On the weight's device; in float32 where the weight is in half precision, as PEFT does."""
    coarse = like.dtype in (torch.bfloat16, torch.float16)
    return nn.Parameter(values.to(like.device, torch.float32 if coarse else like.dtype))


def _pieces(lm: LM, layout: Layout, generator: Any) -> list[Piece]:
    if layout.form == "units":
        return [_Units(_mlp_of(block), layout, generator) for block in blocks(lm.model)]
    found: list[Piece] = []
    for readers in _matrices(lm, layout):
        low = layout.form == "low-rank"
        found.append(LowRank(readers, layout, generator) if low else _FullRank(readers))
    return found


def _matrices(lm: LM, layout: Layout) -> list[dict[str, nn.Module]]:
    """The layers that get a delta, by path; layers that share a weight are together."""
    ends = [lm.model.get_input_embeddings(), lm.model.get_output_embeddings()]
    found: dict[int, dict[str, nn.Module]] = {}
    available: set[str] = set()
    for path, module in lm.model.named_modules():
        linear = isinstance(module, nn.Linear) or is_conv1d(module)
        end = any(module is one for one in ends)
        if not (linear or end) or (end and not layout.embeddings):
            continue
        available.add(path.rpartition(".")[2])
        if end or not layout.modules or _named(path, layout.modules):
            weight: Any = module.weight
            found.setdefault(id(weight), {})[path] = module
    if not found or (layout.modules and not _inner(found, ends)):
        raise BadInput(
            f"no layer of {lm.name} is named {', '.join(layout.modules) or 'linear'}; "
            f"it has {', '.join(sorted(available))}."
        )
    return list(found.values())


def _named(path: str, endings: Sequence[str]) -> bool:
    return any(f".{path}".endswith(f".{ending}") for ending in endings)


def _inner(found: dict[int, dict[str, nn.Module]], ends: Sequence[Any]) -> bool:
    layers = [module for readers in found.values() for module in readers.values()]
    return any(not any(module is end for end in ends) for module in layers)


_GATED, _PLAIN = ("gate_proj", "up_proj", "down_proj", "act_fn"), ("c_fc", "c_proj", "act")


def _mlp_of(block: nn.Module) -> nn.Module:
    for module in block.modules():
        if any(all(hasattr(module, name) for name in names) for names in (_GATED, _PLAIN)):
            return module
    raise BadInput(
        f"the blocks of type {type(block).__name__} have no MLP of a known kind for more units; "
        "choose low-rank or full-rank."
    )


def _mlp(mlp: Any) -> tuple[list[Any], Any, Callable[[Tensor], Tensor]]:
    """The layers that read the stream, the one that writes to it, and what is between."""
    if hasattr(mlp, "gate_proj"):
        return [mlp.gate_proj, mlp.up_proj], mlp.down_proj, mlp.act_fn
    return [mlp.c_fc], mlp.c_proj, mlp.act


def _wide(linear: Any) -> int:
    return int(linear.weight.shape[0 if is_conv1d(linear) else 1])


def _narrow(linear: Any) -> int:
    return int(linear.weight.shape[1 if is_conv1d(linear) else 0])


def _widen(linear: Any, more_OI: Tensor, bias: Tensor | None, *, side: int) -> None:
    """Append to a layer's outputs (side 0) or inputs (side 1)."""
    turned = is_conv1d(linear)
    more = (more_OI.T if turned else more_OI).to(linear.weight.dtype)
    axis = 1 - side if turned else side
    wider = torch.cat([linear.weight.detach(), more], axis)
    linear.weight = nn.Parameter(wider, requires_grad=linear.weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(torch.cat([linear.bias.detach(), bias.to(more)]))
    for name, here in (("out_features", 0), ("nf", 0), ("in_features", 1), ("nx", 1)):
        if here == side and hasattr(linear, name):
            setattr(linear, name, getattr(linear, name) + more_OI.shape[side])


def _resize(config: Any, units: int) -> None:
    if hasattr(config, "intermediate_size"):
        config.intermediate_size += units
    else:
        config.n_inner = (config.n_inner or 4 * config.n_embd) + units
