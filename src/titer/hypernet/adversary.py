"""The adversary: context × edit × network. What it minimises, its trainer says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.hypernet.apply import Patch, applied
from titer.hypernet.context import Activations, Context, Nothing, PromptEmbedding, prompts
from titer.hypernet.edits import Edit, Slots
from titer.hypernet.network import Hypernetwork
from titer.hypernet.sites import Site
from titer.nn.chance import seeded
from titer.train.batches import Batch

__all__ = ["Adversary", "Conditioning", "Reading", "attacker", "effective_rank", "patch_norm"]

_SHARE = 0.1
"""Of the model's weights, what a network of its own choosing may have."""

Reading = Literal["activations", "embedding"]
Conditioning = Literal["universal", "batch", "sample"]


@dataclass(frozen=True)
class Adversary:
    """Writes patches for a model; :func:`attacker` makes one.

    ``limits`` holds each site's budget, fixed when the adversary is made. With ``through``,
    gradients also flow from a patch into the model whose activations it was written from. That is
    no part of a best response (envelope theorem) and can reward a defender for confusing the
    network rather than resisting patches, so it is off by default.
    """

    edit: Edit
    context: Context
    network: Hypernetwork
    limits: Tensor
    conditioning: Conditioning
    through: bool = False

    @property
    def weights(self) -> list[nn.Parameter]:
        """What to train."""
        return list(self.network.parameters())

    def patch(self, model: Any, batch: Batch, *, pooled: bool = False) -> Patch:
        """A patch inside the budget: one for all rows, or one a row, by the conditioning; with
        ``pooled``, one for all rows whatever the conditioning.

        Reads the prompts of the batch and never the answers.
        """
        asked, sites = prompts(batch), self.network.sites
        with torch.set_grad_enabled(self.through and torch.is_grad_enabled()):
            features = self.context(model, sites, asked)
        made: dict[int, dict[str, Tensor]] = {}
        raw = self.network(features, asked.attention_mask, average=True if pooled else None)
        for group, stacks in zip(self.network.groups(), raw, strict=True):
            inside = self.edit.project(stacks, self.limits[group])
            for index, place in enumerate(group):
                made[place] = {name: stack[:, index] for name, stack in inside.items()}
        return {site: made[place] for place, site in enumerate(sites)}

    @torch.no_grad()
    def variety(self, model: Any, batch: Batch) -> float:
        """How unlike the patches for single prompts are: their spread over prompts as a share of
        their length, before projection; 0 where the patch does not depend on the prompt."""
        asked = prompts(batch)
        features = self.context(model, self.network.sites, asked)
        if not features:
            return 0.0
        made = self.network(features, asked.attention_mask, average=False)
        stacks = [stack.float() for group in made for stack in group.values()]
        apart = sum(float((stack - stack.mean(0)).square().sum()) for stack in stacks)
        length = sum(float(stack.square().sum()) for stack in stacks)
        return math.sqrt(apart / length) if length > 0 else 0.0

    def attacking(self, model: Any, batch: Batch) -> AbstractContextManager[None]:
        """``model`` under the patch for ``batch``."""
        return applied(model, self.edit, self.patch(model, batch))

    def flops(self, batch: Batch, forward: float, *, trained: bool = True) -> float:
        """Operations of writing the patch for a batch, and of its gradient if it is ``trained``.

        The context's pass at ``forward`` operations a prompt token, the features' projections a
        token, and the network's other matrices once a patch and site.
        """
        tokens = prompts(batch).tokens
        entering = sum(weight.numel() for weight in self.network.enter.parameters())
        rest = sum(weight.numel() for weight in self.weights) - entering
        patches = len(batch.ids) if self.conditioning == "sample" else 1
        own = 2.0 * (entering * tokens + rest * patches * len(self.network.sites))
        passed = forward * tokens if isinstance(self.context, Activations) else 0.0
        return passed + own * (3 if trained else 1)


def attacker(
    lm: LM,
    edit: Edit,
    batch: Batch,
    *,
    reads: Reading = "activations",
    conditioning: Conditioning = "universal",
    width: int | None = 64,
    blocks: int = 2,
    through: bool = False,
    seed: int = 0,
) -> Adversary:
    """An adversary for ``lm``, which is not changed. ``batch`` is what relative budgets are
    measured on; ``conditioning`` universal reads nothing and writes one patch for all prompts.
    ``width`` None is the largest power of two from 8 up at which the network has at most a tenth of
    the model's weights.

    Raises:
        BadInput: a size that no network can have, or an edit that does not fit the model.
    """
    if (width is not None and width < 1) or blocks < 0:
        raise BadInput(f"hypernetwork: width={width} and blocks={blocks}; at least 1 and 0.")
    sites = edit.sites(lm.model)
    context: Context = Activations() if reads == "activations" else PromptEmbedding()
    if conditioning == "universal":
        context = Nothing()
    slots = [edit.slots(site) for site in sites]
    features = [context.width(lm.model, site) for site in sites]
    size = width or _fitting(lm, sites, slots, features, blocks)
    dtype = torch.float64 if lm.model.dtype == torch.float64 else torch.float32
    with seeded(seed, lm.device):
        network = Hypernetwork(
            sites,
            slots,
            features,
            width=size,
            blocks=blocks,
            average=conditioning == "batch",
        ).to(lm.device, dtype)
    limits = edit.limits(lm.model, sites, batch).to(lm.device, dtype)
    return Adversary(edit, context, network, limits, conditioning, through)


def _fitting(
    lm: LM,
    sites: Sequence[Site],
    slots: Sequence[Mapping[str, Slots]],
    features: Sequence[int],
    blocks: int,
) -> int:
    most = _SHARE * sum(weight.numel() for weight in lm.model.parameters())
    width = 8
    while width < 1024:
        with torch.device("meta"):
            network = Hypernetwork(
                sites, slots, features, width=2 * width, blocks=blocks, average=False
            )
        if sum(weight.numel() for weight in network.parameters()) > most:
            break
        width *= 2
    return width


# -- what a patch is like -------------------------------------------------------------------------


@torch.no_grad()
def patch_norm(patch: Patch) -> float:
    """Length of everything a patch holds, averaged over patches, as one number to watch."""
    squares = [t.float().square().sum() / len(t) for own in patch.values() for t in own.values()]
    return float(torch.stack(squares).sum().sqrt())


@torch.no_grad()
def effective_rank(patches: Patch) -> float:
    """How many unlike directions low-rank patches use: the exponential of the entropy of the
    squared singular values of ``Vᵀ U``, averaged over sites and patches; from 1 to the rank, and 0
    where there is nothing. An adversary with a single trick has 1.

    Source: Roy and Vetterli 2007, EUSIPCO (with squared singular values here).
    """
    found: list[Tensor] = []
    for own in patches.values():
        if {"u", "v"} <= own.keys():
            left, right = (torch.linalg.qr(own[name].float().mT)[1] for name in ("v", "u"))
            energy = torch.linalg.svdvals(left @ right.mT).square()
            share = energy / energy.sum(-1, keepdim=True).clamp(min=1e-30)
            entropy = -torch.xlogy(share, share).sum(-1)
            found.append(torch.where(energy.sum(-1) > 0, entropy.exp(), 0.0).mean())
    return float(torch.stack(found).mean()) if found else 0.0
