"""Logits only where they are needed. B rows, T tokens, D width, V vocabulary."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["hidden_states", "splits"]


def splits(model: Any) -> bool:
    """Whether the model's logits are its head applied to its last hidden states and nothing else.

    Some models scale or cap what the head gives, or have no head of their own. A few tokens tell.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _splits(model)
    return _KNOWN[model]


_KNOWN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _splits(model: Any) -> bool:
    head, body = model.get_output_embeddings(), getattr(model, "base_model", model)
    if head is None or body is model:
        return False
    training = model.training
    model.eval()
    ids = torch.arange(4, device=next(model.parameters()).device)[None]
    whole = model(input_ids=ids, use_cache=False).logits
    parts = head(body(input_ids=ids, use_cache=False).last_hidden_state)
    model.train(training)
    return whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-3, atol=1e-4)


def hidden_states(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What the head would be given, (B, T, D)."""
    return model.base_model(**inputs, use_cache=False).last_hidden_state
