"""The network that writes patches.

B rows, T prompt tokens, P patches, S sites of one shape, H the network's own width, R slots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titer.hypernet.edits import Slots
from titer.hypernet.sites import Site

__all__ = ["Hypernetwork", "rms"]

_WAVES = 4
"""Frequencies of the depth's code: enough to tell a hundred blocks apart."""


def rms(x: Tensor) -> Tensor:
    """Each vector scaled to mean square one, so that the size of activations is no lever."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-16)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.down(F.gelu(self.up(rms(z))))


class Hypernetwork(nn.Module):
    """From features to slots.

    For each site: features are RMS-normalised, projected by a matrix for their width, and pooled
    over each row's own prompt tokens by attention, whose query is the site's code (a learned one
    for its kind, waves of its relative depth). Code and pooled features go through residual blocks,
    each slot scales the result by a code of its own, and one matrix for each slot name and width
    writes vectors. Nothing is sized by the model's depth; a slot more costs H numbers.

    Slots that start at zero have a zero matrix, so the first gradient is theirs alone and the
    others have one from the second step. What the last matrices write is divided by H: an Adam step
    then moves an entry about as far as if it were trained itself, so LoRA's rates carry over.

    Args:
        sites: where the edit acts.
        slots: what is written at each of them.
        features: the width of each site's features; all 0 for no context.
        width: H.
        blocks: how many residual blocks.
        average: over the rows of a batch, for one patch in place of B.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        slots: Sequence[Mapping[str, Slots]],
        features: Sequence[int],
        *,
        width: int,
        blocks: int,
        average: bool,
    ) -> None:
        super().__init__()
        self.sites, self.written, self.average = list(sites), list(slots), average
        self.kinds = {kind: rank for rank, kind in enumerate(sorted({s.kind for s in sites}))}
        self.kind = nn.Embedding(len(self.kinds), width)
        self.depth = nn.Linear(2 * _WAVES, width)
        widths = sorted({size for size in features if size})
        self.enter = nn.ModuleDict({str(n): nn.Linear(n, width, bias=False) for n in widths})
        self.query = nn.Linear(width, width, bias=False) if widths else None
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        stacks = {name: stack for group in slots for name, stack in group.items()}
        self.slot = nn.ParameterDict(
            {name: torch.randn(stack.count, width) for name, stack in sorted(stacks.items())}
        )
        ends = {_end(name, stack): stack for group in slots for name, stack in group.items()}
        heads = {end: nn.Linear(width, s.width, bias=False) for end, s in ends.items()}
        for end, head in heads.items():
            # A vector of about unit length, see the division by H in `_write`.
            std = 0.0 if ends[end].zero else math.sqrt(width / ends[end].width)
            nn.init.normal_(head.weight, std=std)
        self.heads = nn.ModuleDict(heads)
        self.register_buffer("waves", _waves(sites), persistent=False)
        ranks = torch.tensor([self.kinds[site.kind] for site in sites])
        self.register_buffer("ranks", ranks, persistent=False)

    def groups(self) -> list[list[int]]:
        """Sites whose slots have the same shapes, as places in ``sites``."""

        def shape(place: int) -> list[tuple[str, int, int]]:
            return [(name, s.count, s.width) for name, s in sorted(self.written[place].items())]

        ranked = sorted(range(len(self.sites)), key=shape)
        return [list(group) for _, group in groupby(ranked, key=shape)]

    def forward(
        self, features: Sequence[Tensor], mask_BT: Tensor, *, average: bool | None = None
    ) -> list[dict[str, Tensor]]:
        """Raw slots for each of :meth:`groups`, by name, (P, S, R, width); ``average`` says
        otherwise than the network was made for."""
        mean = self.average if average is None else average
        code_SH = rms(self.kind(self.ranks) + self.depth(self.waves))
        if features:
            code_BSH = code_SH + self._pool(features, mask_BT, code_SH)
            code_PSH = code_BSH.mean(0, keepdim=True) if mean else code_BSH
        else:
            code_PSH = code_SH[None]
        z_PSH = self.blocks(code_PSH)
        return [
            {name: self._write(z_PSH[:, group], name, stack) for name, stack in written.items()}
            for group in self.groups()
            for written in [self.written[group[0]]]
        ]

    def _pool(self, features: Sequence[Tensor], mask_BT: Tensor, code_SH: Tensor) -> Tensor:
        """What each site's query finds in its features, (B, S, H).

        Queries are carried into the features' space and pooled features out of it, which is the
        attention over projected features at the cost of a vector a site in place of one a token.
        Sites that read the same tensor (queries, keys and values do) share the work.
        """
        assert self.query is not None  # made wherever there are features
        query_SH = self.query(code_SH) / math.sqrt(code_SH.shape[-1])
        sharing: dict[int, list[int]] = {}
        for place, x_BTD in enumerate(features):
            sharing.setdefault(id(x_BTD), []).append(place)
        pooled: list[Tensor] = []
        for places in sharing.values():
            x_BTD = rms(features[places[0]].to(code_SH.dtype))
            enter_HD = self.enter.get_submodule(str(x_BTD.shape[-1])).weight
            scores_BTN = x_BTD @ (query_SH[places] @ enter_HD).mT
            share_BTN = scores_BTN.masked_fill(mask_BT[..., None] == 0, -torch.inf).softmax(1)
            pooled.append(share_BTN.mT @ x_BTD @ enter_HD.mT)
        order = [place for places in sharing.values() for place in places]
        back = sorted(range(len(order)), key=order.__getitem__)
        return rms(torch.cat(pooled, 1)[:, back])

    def _write(self, z_PSH: Tensor, name: str, stack: Slots) -> Tensor:
        # By product and not by sum: what all slots share would make every update of rank one.
        h_PSRH = rms(z_PSH)[:, :, None] * self.slot[name]
        return self.heads[_end(name, stack)](h_PSRH) / h_PSRH.shape[-1]


def _end(name: str, stack: Slots) -> str:
    return f"{name}:{stack.width}"


def _waves(sites: Sequence[Site]) -> Tensor:
    depth_S1 = torch.tensor([[site.depth] for site in sites])
    angles = depth_S1 * (math.pi * 2.0 ** torch.arange(_WAVES))
    return torch.cat([angles.sin(), angles.cos()], -1)
