"""Directions in the residual stream: found, taken out, added.

B rows, T tokens, D width, L blocks, P positions, K rank of a subspace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from titer.core.config import hidden_size
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.biases import could_have_bias, switch_on
from titer.nn.edits import Linear, embeddings, untie, writers
from titer.nn.hooks import blocks
from titer.nn.stream import Norm, arrived, remaining, sources, table_norm

__all__ = [
    "EMBEDDING",
    "Cut",
    "Cuts",
    "ablating",
    "cuttable",
    "everywhere",
    "orthogonalise",
    "orthonormal",
    "positions",
    "project_out",
    "steer",
    "steerable",
    "steering",
]

EMBEDDING = "embedding"
"""The key under which :data:`Cuts` hold what is taken out of the embeddings."""


@dataclass(frozen=True)
class Cut:
    """Take the share ``strength`` of the span of ``basis_KD`` out of what a matrix writes."""

    basis_KD: Tensor
    strength: float = 1.0


Cuts = Mapping[str, Cut]
"""What to take out of each writer of the residual stream, by its home, see :class:`Linear`."""


def orthonormal(vectors: Sequence[Tensor] | Tensor) -> Tensor:
    """An orthonormal basis (K, D) of the span of K vectors, in their order.

    Raises:
        BadInput: a vector is zero, or lies in the span of those before it.
    """
    basis: list[Tensor] = []
    for vector_D in vectors:
        rest = vector_D.float()
        size = rest.norm()
        for _ in range(2):  # the second pass removes what rounding left of the first
            for known in basis:
                rest = rest - (rest @ known) * known
        if not float(rest.norm()) > 1e-5 * max(float(size), 1e-20):
            raise BadInput("a direction is zero or lies in the span of the others.")
        basis.append(rest / rest.norm())
    return torch.stack(basis)


def project_out(states: Tensor, cut: Cut) -> Tensor:
    """``h − s·(h Vᵀ) V`` for states (..., D); computed in single precision, returned in theirs.

    Source: Arditi et al. 2024, arXiv:2406.11717, equation 4.
    """
    basis = cut.basis_KD.to(states.device)
    h = states.float()
    return (h - cut.strength * (h @ basis.T) @ basis).to(states.dtype)


def everywhere(model: nn.Module, basis_KD: Tensor) -> dict[str, Cut]:
    """The same full cut at the embeddings and at every writer."""
    cut = Cut(basis_KD)
    return {EMBEDDING: cut, **{writer.home: cut for writer in writers(model)}}


def _before(cut: Cut, norm: Norm | None) -> Cut:
    """The cut of a writer's own output, where a norm comes after it."""
    return cut if norm is None else Cut(norm.before(cut.basis_KD), cut.strength)


@contextmanager
def ablating(model: nn.Module, cuts: Cuts) -> Iterator[None]:
    """The hook form: inside, what the named matrices write is cut."""

    def cutter(cut: Cut) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return project_out(output, cut)

        return hook

    def lowered(bias_D: Tensor, cut: Cut) -> Any:
        lost_D = bias_D - project_out(bias_D, cut)
        return lambda _module, _inputs, output: output - lost_D

    # Experts that share a tensor are cut where their outputs come together.
    places: dict[int, tuple[nn.Module, Any]] = {}
    for cut, norm, modules in _places(model, cuts):
        for module in modules:
            places[id(module)] = (module, cutter(_before(cut, norm)))
        if norm is not None and norm.bias_D is not None:
            places[id(norm.module)] = (norm.module, lowered(norm.bias_D, cut))
    handles = [module.register_forward_hook(hook) for module, hook in places.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(model: Any, cuts: Cuts) -> Iterator[tuple[Cut, Norm | None, list[Any]]]:
    """Each cut with the norm behind its place and the modules whose output it is of."""
    for source in sources(model):
        if (cut := cuts.get(source.linear.home)) is not None:
            yield cut, source.norm, [source.linear.module]
    if (cut := cuts.get(EMBEDDING)) is not None:
        for table in embeddings(model):
            yield cut, table_norm(model, table), [table]


def orthogonalise(lm: LM, cuts: Cuts) -> None:
    """The weight form, in place: what the named matrices write is cut for good.

    Equal to the hook form. Where a norm comes between a matrix and the residual stream (Gemma 2,
    OLMo 2), another direction goes from its input, so that the wanted one leaves its output, and
    the norm's bias is cut. A head that shares the embedding's weights gets its own. Whether the
    direction is gone is for :func:`~titer.nn.stream.remaining` to say.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 4.1.
    Departs: the direction before a norm.
    """
    found = sources(lm.model)
    tables = embeddings(lm.model) if EMBEDDING in cuts else []
    if tables:
        untie(lm)
    behind = [table_norm(lm.model, table) for table in tables]
    biases: dict[int, tuple[Tensor, Cut]] = {}

    def noted(norm: Norm | None, cut: Cut) -> None:
        if norm is not None and norm.bias_D is not None:
            biases[id(norm.module)] = (norm.bias_D, cut)

    for source in found:
        if (wanted := cuts.get(source.linear.home)) is None:
            continue
        writer, cut = source.linear, _before(wanted, source.norm)
        noted(source.norm, wanted)
        writer.weight_OI.copy_(project_out(writer.weight_OI.T, cut).T)
        if writer.bias_O is not None:
            writer.bias_O.copy_(project_out(writer.bias_O, cut))
    for table, norm in zip(tables, behind, strict=True):
        noted(norm, cuts[EMBEDDING])
        rows = table.weight.detach()
        rows.copy_(project_out(rows, _before(cuts[EMBEDDING], norm)))
    for bias_D, cut in biases.values():
        bias_D.copy_(project_out(bias_D, cut))


def cuttable(lm: LM) -> float:
    """The share of a direction that a cut everywhere takes out of the residual stream, tried on one
    drawn at random: 1 where all that writes was found."""
    width = hidden_size(lm.model.config)
    drawn = torch.randn(1, width, generator=torch.Generator().manual_seed(0))
    basis = orthonormal(drawn.to(lm.device))
    out = lm.clone()
    orthogonalise(out, everywhere(out.model, basis))
    return max(0.0, 1.0 - remaining(lm.model, out.model, basis))


@torch.no_grad()
def positions(model: Any, inputs: Mapping[str, Tensor], last: int) -> Tensor:
    """The residual stream after every block at the ends of right-padded prompts.

    Returns:
        (B, L, last + 1, D) in single precision: the last ``last`` tokens of each prompt, in order
        (a shorter prompt repeats its first), then the mean over all its tokens.
    """
    mask = inputs["attention_mask"]
    ends = mask.sum(-1, keepdim=True)
    places = (ends - last + torch.arange(last, device=mask.device)).clamp(min=0)
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden = (output[0] if isinstance(output, tuple) else output).float()
        mean = (hidden * mask[..., None]).sum(1) / ends
        kept.append(torch.cat([hidden[rows, places], mean[:, None]], 1))

    handles = [block.register_forward_hook(keep) for block in blocks(model)]
    try:
        model(**inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(kept, 1)


# -- steering -------------------------------------------------------------------------------------


_SWITCH = "mlp_bias"
_SITES: WeakKeyDictionary[Any, dict[int, Linear | None]] = WeakKeyDictionary()


def _site(model: Any, layer: int) -> Linear | None:
    """The MLP's output in a block where a bias can be saved there and is added to the stream as it
    is; None: the token embedding."""
    known = _SITES.setdefault(model, {})
    if layer not in known:
        known[layer] = _free(model, layer)
    return known[layer]


def _free(model: Any, layer: int) -> Linear | None:
    own = [source for source in sources(model) if source.linear.layer == layer]
    last = own[-1]
    # The outputs of experts and of what stands beside them are weighted, token by token.
    if last.norm is not None or any(source.linear.expert is not None for source in own):
        return None
    writer = last.linear
    can = writer.bias is not None or could_have_bias(model, _SWITCH, writer.module)
    return writer if can else None


@contextmanager
def steering(model: Any, layer: int, vector_D: Tensor) -> Iterator[None]:
    """The hook form of :func:`steer`."""
    site = _site(model, layer)
    module = site.module if site else model.get_input_embeddings()

    def add(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output + vector_D.to(output)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def steer(lm: LM, layer: int, vector_D: Tensor) -> None:
    """Add a vector to the residual stream after block ``layer`` at every token, in the weights.

    The vector becomes the bias of the block's MLP output. Llama gets one through its ``mlp_bias``
    setting, with zeros elsewhere. Where none can be held there, or it would not be added as it is
    (Qwen2, norms after the MLP, experts), the vector is added to the token embedding instead, so
    that it acts from the first block on. :func:`steerable` says how much of it arrives.
    """
    site = _site(lm.model, layer)
    if site is None:
        untie(lm)
        table = lm.model.get_input_embeddings()
        weight = table.weight.detach()
        longest = weight.norm(dim=-1).argmax()[None]  # a padding token's row is zero
        with torch.no_grad():  # some tables scale what is looked up
            scale = float(table(longest).norm() / weight[longest].norm())
        weight += vector_D.to(weight) / scale
        return
    if site.module.bias is None:
        switch_on(lm, _SWITCH)
    bias_D: Any = site.module.bias
    bias_D.detach().add_(vector_D.to(bias_D))


def steerable(lm: LM, layer: int) -> float:
    """The share of a vector that :func:`steer` adds which arrives, tried on one drawn at random:
    after the block, or before the first where it goes into the embedding."""
    size = float(lm.model.get_input_embeddings().weight.detach().norm(dim=-1).mean())
    drawn = torch.randn(hidden_size(lm.model.config), generator=torch.Generator().manual_seed(0))
    vector_D = size * drawn / drawn.norm()
    out = lm.clone()
    place = 0 if _site(out.model, layer) is None else layer + 1
    steer(out, layer, vector_D.to(lm.device))
    return arrived(lm.model, out.model, place, vector_D)
