"""What the adversary is told about a batch: prompts only, as a patch that saw answers leaks them.

B rows, T prompt tokens, D the width of what is read at a site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from titer.hypernet.sites import EMBEDDING, Site, located
from titer.nn.head import hidden_states, splits
from titer.train.batches import IGNORED, Batch

__all__ = ["Activations", "Context", "Nothing", "PromptEmbedding", "prompts"]


class Context(Protocol):
    """Features for each site. ``width`` is what a site's features have, 0 for none at all."""

    def width(self, model: Any, site: Site) -> int: ...

    def __call__(self, model: Any, sites: Sequence[Site], batch: Batch) -> list[Tensor]: ...


def prompts(batch: Batch) -> Batch:
    """The prompts of a batch alone: answers cut off or masked, and the width cut to the longest."""
    answered = (batch.labels != IGNORED).cumsum(-1) > 0
    mask = batch.attention_mask * ~answered
    longest = max(1, int(mask.sum(-1).max()))
    return replace(
        batch,
        input_ids=batch.input_ids[:, :longest],
        attention_mask=mask[:, :longest],
        labels=torch.full_like(batch.labels[:, :longest], IGNORED),
        tokens=int(mask.sum()),
    )


class Nothing:
    """No context: one patch for all prompts, an attacker's realistic artefact."""

    def width(self, model: Any, site: Site) -> int:
        return 0

    def __call__(self, model: Any, sites: Sequence[Site], batch: Batch) -> list[Tensor]:
        return []


class PromptEmbedding:
    """The embedded prompt, (B, T, D), the same for every site; costs no forward pass."""

    def width(self, model: Any, site: Site) -> int:
        return int(model.get_input_embeddings().weight.shape[1])

    def __call__(self, model: Any, sites: Sequence[Site], batch: Batch) -> list[Tensor]:
        return [model.get_input_embeddings()(batch.input_ids)] * len(sites)


class Activations:
    """What each site reads, (B, T, D); at the embedding, what it puts out."""

    def width(self, model: Any, site: Site) -> int:
        return site.writes if site.kind == EMBEDDING else site.reads

    def __call__(self, model: Any, sites: Sequence[Site], batch: Batch) -> list[Tensor]:
        seen: dict[int, Tensor] = {}

        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            read = inputs[0]
            seen[id(module)] = read if read.is_floating_point() else output

        modules = located(model, sites)
        handles = [module.register_forward_hook(keep) for module in modules]
        try:
            if splits(model):
                hidden_states(model, batch.inputs())  # nobody asks for logits
            else:
                model(**batch.inputs(), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        whole = batch.input_ids.shape
        # Some layers are given all tokens in one row.
        return [seen[id(module)].reshape(*whole, -1) for module in modules]
