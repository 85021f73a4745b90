"""Where an edit can act in a model: linear layers, blocks, the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from titer.core.config import hidden_size
from titer.core.errors import BadInput
from titer.nn.edits import WRITERS, linears, parameters, writers
from titer.nn.hooks import blocks
from titer.nn.products import uses
from titer.nn.stacked import is_plain

__all__ = [
    "EMBEDDING",
    "Site",
    "at_blocks",
    "at_embedding",
    "at_linears",
    "located",
    "matrix",
    "share_of",
]

EMBEDDING = "embedding"
"""The kind of the one site that lies in no block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place in a model.

    ``path`` is the module's name in the model. ``kind`` is its name inside its block, which sites
    of the same sort share over all depths. ``depth`` runs from 0 at the first block to 1 at the
    last. ``reads`` and ``writes`` are the widths of the module's input and output.
    """

    path: str
    kind: str
    depth: float
    reads: int
    writes: int

    @property
    def writer(self) -> bool:
        """Whether the module's output is added to the residual stream."""
        return self.kind.rpartition(".")[2] in WRITERS


def matrix(module: Any) -> Tensor | None:
    """The weight of a linear layer as (out, in), a view; GPT-2 stores its own transposed."""
    if isinstance(module, nn.Linear):
        return module.weight
    if type(module).__name__ == "Conv1D":
        return module.weight.T
    return None


def _paths(model: nn.Module) -> dict[int, str]:
    return {id(module): name for name, module in model.named_modules()}


def at_linears(model: nn.Module, endings: Sequence[str] = ()) -> list[Site]:
    """The linear layers inside blocks, those whose name ends in one of ``endings`` if any is given.

    Layers that are run and give their product and nothing else: an edit acts on what they read and
    put out. What is left out, :func:`share_of` counts.

    Raises:
        BadInput: none matches; the message lists what there is.
    """
    found: list[Site] = []
    names, stack = _paths(model), blocks(model)
    for index, (block, used) in enumerate(zip(stack, uses(model), strict=True)):
        for kind, module in block.named_modules():
            use = used.get(f"{kind}.weight")
            apart = use is not None and use.multiplies and not use.called
            weight = matrix(module)
            if weight is not None and not apart and is_plain(module):
                depth = index / max(1, len(stack) - 1)
                writes, reads = weight.shape
                path = names[id(module)]
                found.append(Site(path=path, kind=kind, depth=depth, reads=reads, writes=writes))
    wanted = tuple(f".{ending}" for ending in endings)
    kept = [site for site in found if not endings or f".{site.kind}".endswith(wanted)]
    if not kept:
        kinds = sorted({site.kind for site in found})
        asked = f" named {', '.join(endings)}" if endings else ""
        raise BadInput(f"the model has no linear layer{asked}; its blocks hold {', '.join(kinds)}.")
    return kept


def share_of(model: Any, sites: Sequence[Site]) -> float:
    """The share of the weights of their sort that the sites hold, by number.

    All weights that multiply inside the blocks are of one sort, but sites that are all writers of
    the residual stream, or none of them, are measured on those of their side.
    """
    mine = {id(weight) for weight in map(_held, located(model, sites)) if weight is not None}
    written = {id(weight) for weight in parameters(writers(model))}
    sides = {site.writer for site in sites if site.kind not in ("block", EMBEDDING)}
    if not sides:
        return 1.0
    every = parameters(linears(model))
    if len(sides) == 1:
        every = [weight for weight in every if (id(weight) in written) == (True in sides)]
    total = sum(weight.numel() for weight in every)
    return sum(weight.numel() for weight in every if id(weight) in mine) / max(1, total)


def _held(module: Any) -> Tensor | None:
    return getattr(module, "weight", None)


def at_blocks(model: Any) -> list[Site]:
    """The residual stream after each block."""
    names, stack = _paths(model), blocks(model)
    width = hidden_size(model.config)
    last = max(1, len(stack) - 1)
    return [
        Site(path=names[id(block)], kind="block", depth=index / last, reads=width, writes=width)
        for index, block in enumerate(stack)
    ]


def at_embedding(model: Any) -> list[Site]:
    """The token embedding, whose output is the residual stream before the first block."""
    embedding = model.get_input_embeddings()
    rows, width = embedding.weight.shape
    path = _paths(model)[id(embedding)]
    return [Site(path=path, kind=EMBEDDING, depth=0.0, reads=rows, writes=width)]


def located(model: nn.Module, sites: Sequence[Site]) -> list[nn.Module]:
    """The modules at ``sites``, also where the model has been wrapped since they were found.

    A wrapper prefixes names, so the module whose name ends in the path is meant; what stands in
    for a layer or a block while adapters train holds it as ``inner``, and is meant in its place.

    Raises:
        BadInput: the model has no such module, or several.
    """
    exact: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        seen = ".".join(part for part in name.split(".") if part != "inner")
        exact.setdefault(seen, module)
    found: list[nn.Module] = []
    for site in sites:
        if (module := exact.get(site.path)) is None:
            ending = f".{site.path}"
            matches = [module for name, module in exact.items() if name.endswith(ending)]
            if len(matches) != 1:
                raise BadInput(
                    f"{type(model).__name__} has {len(matches)} modules {site.path!r}; "
                    "make the adversary for the model that it attacks."
                )
            module = matches[0]
        found.append(module)
    return found
