"""Directions in the residual stream: found, taken out, added.

B rows, T tokens, D width, L blocks, P positions, K rank of a subspace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import Linear, embeddings, linears, untie, writers
from titer.nn.hooks import blocks

__all__ = [
    "EMBEDDING",
    "Cut",
    "Cuts",
    "ablating",
    "everywhere",
    "orthogonalise",
    "orthonormal",
    "positions",
    "project_out",
    "steer",
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
"""What to take out of each writer of the residual stream, by its path."""


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
    return {EMBEDDING: cut, **{writer.path: cut for writer in writers(model)}}


@contextmanager
def ablating(model: nn.Module, cuts: Cuts) -> Iterator[None]:
    """The hook form: inside, what the named matrices write is cut."""

    def cutter(cut: Cut) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return project_out(output, cut)

        return hook

    places: list[tuple[nn.Module, Cut]] = [
        (writer.module, cuts[writer.path]) for writer in writers(model) if writer.path in cuts
    ]
    if EMBEDDING in cuts:
        places += [(table, cuts[EMBEDDING]) for table in embeddings(model)]
    handles = [module.register_forward_hook(cutter(cut)) for module, cut in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def orthogonalise(lm: LM, cuts: Cuts) -> None:
    """The weight form, in place: what the named matrices write is cut for good.

    Equal to the hook form in models that add a matrix's output to the residual stream as it is
    (Llama, Qwen, Mistral, GPT-2), not in those that norm it first (Gemma 2). A head that shares the
    embedding's weights gets its own.

    Source: Arditi et al. 2024, arXiv:2406.11717, section 4.1.
    """
    for writer in writers(lm.model):
        if writer.path in cuts:
            cut = cuts[writer.path]
            writer.weight_OI.copy_(project_out(writer.weight_OI.T, cut).T)
            if writer.bias_O is not None:
                writer.bias_O.copy_(project_out(writer.bias_O, cut))
    if EMBEDDING in cuts:
        untie(lm)
        for table in embeddings(lm.model):
            table.weight.detach().copy_(project_out(table.weight.detach(), cuts[EMBEDDING]))


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


def _site(model: nn.Module, layer: int) -> Linear | None:
    """The MLP's output in a block where a bias can be saved there; None: the token embedding."""
    config: Any = model.config
    writer = [found for found in writers(model) if found.layer == layer][-1]
    can = writer.bias_O is not None or hasattr(config, "mlp_bias")
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
    setting, with zeros elsewhere. An architecture that can hold none there (Qwen2) has the vector
    added to its token embedding instead, so that it acts from the first block on.
    """
    site = _site(lm.model, layer)
    if site is None:
        untie(lm)
        table = lm.model.get_input_embeddings().weight.detach()
        table += vector_D.to(table)
        return
    if site.bias_O is None:
        lm.model.config.mlp_bias = True
        home = site.path.partition(".")[2].rpartition(".")[0]
        for linear in linears(lm.model):
            if linear.path.partition(".")[2].rpartition(".")[0] == home:
                weight = linear.module.weight
                linear.module.bias = nn.Parameter(
                    weight.detach().new_zeros(weight.shape[0]), requires_grad=weight.requires_grad
                )
    bias = site.bias_O
    assert bias is not None
    bias += vector_D.to(bias)
