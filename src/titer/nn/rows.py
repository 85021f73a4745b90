"""Several sequences in one row of a batch, each seeing itself alone: how, and which models allow
it. R rows, N tokens."""

from __future__ import annotations

import logging
import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from titer.core.config import text_config, vocab_size

__all__ = ["additive", "reach", "shares_rows"]


def additive(seen_RNN: Tensor, dtype: torch.dtype) -> Tensor:
    """An attention mask (R, 1, N, N) from which token (second axis) may see which (third)."""
    mask = torch.zeros(seen_RNN.shape, dtype=dtype, device=seen_RNN.device)
    return mask.masked_fill_(~seen_RNN, torch.finfo(dtype).min)[:, None]


def reach(config: Any) -> float:
    """The longest sequence, in tokens, in which every token sees all before it as it would alone.

    Beyond it there are models with windows and chunks, which a mask of ours would override, and
    with position codes that depend on the longest sequence of a batch.
    """
    text = text_config(config)
    limits = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    ropes: Any = getattr(text, "rope_parameters", None) or {}
    for rope in (ropes, *(part for part in ropes.values() if isinstance(part, dict))):
        if rope.get("rope_type") in ("dynamic", "longrope"):
            first = rope.get("original_max_position_embeddings")
            limits.append(first or getattr(text, "original_max_position_embeddings", None) or 1)
    return min((limit for limit in limits if limit), default=math.inf)


def shares_rows(model: Any, copies: int = 1) -> bool:
    """Whether sequences that share a row, kept apart by mask and positions, give the model's logits
    of each alone; tried once a model, on a few tokens.

    They do not where a state runs along the row whatever the mask says, or where positions come
    from elsewhere. ``copies``: K, for a model whose batch is K times as long as what it is given.
    """
    if model not in _ABLE:
        able = _tried(model, copies)
        if able is None:
            return False
        _ABLE[model] = able
    return _ABLE[model]


_ABLE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_PAIR = ((1, 4, 2, 7, 3), (1, 5, 6, 4, 8))


@torch.no_grad()
def _tried(model: Any, copies: int) -> bool | None:
    """The trial; None where a broken model lets nothing be said."""
    one = next(model.parameters())
    words = vocab_size(model.config)
    ids = torch.tensor(_PAIR, device=one.device) % words
    places = torch.arange(ids.shape[1], device=one.device).expand_as(ids)
    owner = torch.arange(2, device=one.device).repeat_interleave(ids.shape[1])
    seen = (owner[:, None] == owner).tril()[None].expand(copies, -1, -1)
    training = model.training
    model.eval()
    try:
        plain = model(
            input_ids=ids.repeat(copies, 1),
            attention_mask=torch.ones_like(ids).repeat(copies, 1),
            position_ids=places.repeat(copies, 1),
            use_cache=False,
        ).logits
        shared = model(
            input_ids=ids.reshape(1, -1).repeat(copies, 1),
            attention_mask=additive(seen, model.dtype),
            position_ids=places.reshape(1, -1).repeat(copies, 1),
            use_cache=False,
        ).logits.reshape(plain.shape)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        logging.getLogger(__name__).info("%s has a row a sequence: %s", type(model), error)
        return False
    finally:
        model.train(training)
    if not bool(plain.isfinite().all()):
        return None
    room = torch.finfo(model.dtype).eps ** 0.5
    return torch.allclose(shared, plain, rtol=room, atol=room)
