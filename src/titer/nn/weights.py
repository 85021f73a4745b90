"""Which weights a fine-tune may change, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.hooks import blocks

__all__ = ["Parameters", "Weights", "chosen", "distance", "named_matrices"]

Parameters = Literal["full", "lora", "norms-and-embeddings"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Which weights a member trains.

    ``full``: all, or the matrices whose name ends in one of ``modules``. ``lora``: a low-rank
    adapter (Hu et al. 2021, arXiv:2106.09685) around every linear layer but the head, or around
    those in ``modules``; ``seed`` draws its first factor, the second starts at zero.
    ``norms-and-embeddings``: these and every bias.
    """

    which: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0
    seed: int = 0
    modules: tuple[str, ...] = ()


def chosen(lm: LM, which: Parameters, modules: Sequence[str]) -> list[nn.Parameter]:
    """The model's own weights that train, in the model's order, each once.

    Raises:
        BadInput: ``modules`` match nothing.
    """
    if which == "full":
        if not modules:
            return list(lm.model.parameters())
        return [weight for _, weight in named_matrices(lm, modules)]
    kept: dict[int, nn.Parameter] = {}
    for module in lm.model.modules():
        own = dict(module.named_parameters(recurse=False))
        if "norm" in type(module).__name__.lower() or isinstance(module, nn.Embedding):
            picked = list(own.values())
        else:
            picked = [weight for name, weight in own.items() if name == "bias"]
        kept.update({id(weight): weight for weight in picked})
    return list(kept.values())


def named_matrices(
    lm: LM, endings: Sequence[str], layers: Sequence[int] | None = None
) -> list[tuple[str, nn.Parameter]]:
    """Weights whose path ends in one of ``endings``, in the given blocks.

    A path is ``3.mlp.down_proj``, or ``3.mlp.experts.down_proj`` for all of a block's fused
    experts: block, then name inside it. Whole path components are compared.

    Raises:
        BadInput: nothing matches; the message lists what could.
    """
    found: list[tuple[str, nn.Parameter]] = []
    available: set[str] = set()
    wanted = tuple(f".{ending}" for ending in endings)
    for index, block in enumerate(blocks(lm.model)):
        for full, weight in block.named_parameters():
            if weight.dim() < 2 or full.endswith("bias"):
                continue
            # Fused experts are tensors of their own name; else a layer has one, called weight.
            name = full.removesuffix(".weight")
            available.add(name)
            path = f".{index}.{name}"
            if path.endswith(wanted) and (layers is None or index in layers):
                found.append((path[1:], weight))
    if not found:
        raise BadInput(
            f"no matrix of {lm.name} is named {', '.join(endings)}"
            + (f" in blocks {', '.join(map(str, layers))}" if layers is not None else "")
            + f"; each block has {', '.join(sorted(available))}."
        )
    return found


@torch.no_grad()
def distance(lm: LM, start: LM) -> float | None:
    """The norm of the change of all weights over the norm of those of ``start``; None where the two
    do not have the same weights by name and shape."""
    mine, theirs = (dict(one.model.named_parameters()) for one in (lm, start))
    if mine.keys() != theirs.keys() or any(mine[key].shape != theirs[key].shape for key in mine):
        return None
    gaps = [(mine[key].float() - theirs[key].float()).norm() for key in mine]
    whole = [weight.float().norm() for weight in theirs.values()]
    return float(torch.stack(gaps).norm() / torch.stack(whole).norm())
