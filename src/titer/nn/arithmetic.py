"""Whether two machines compute alike: a hash over the bits of one small training step.

Sums are taken in another order on another processor, so the last bits differ, and training
amplifies them. Names of processors do not tell (libraries choose their kernels by what they find,
and by environment variables); what comes out does.
"""

from __future__ import annotations

import hashlib
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["arithmetic"]

_SHAPES = ((7, 24), (33, 128), (128, 352), (200, 472))
"""Rows and widths: odd ones, those of the testbed's models, and its vocabulary."""


@cache
def arithmetic() -> str:
    """Twelve hex digits that are equal where this process computes on its CPU as another did.

    One thread, float32: products of matrices, attention, norms, softmax and the functions in them,
    their gradients, and a step of AdamW, from inputs that are the same bits everywhere. Equal
    hashes make equal results likely, not certain; different ones make them unlikely.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            found = [part for rows, width in _SHAPES for part in _step(rows, width)]
    finally:
        torch.set_num_threads(threads)
    total = hashlib.sha256()
    for part in found:
        total.update(part.detach().contiguous().numpy().tobytes())
    return total.hexdigest()[:12]


def _fill(*shape: int, salt: int) -> Tensor:
    """Values in [-0.5, 0.5) by whole-number arithmetic alone, exact in float32."""
    count = torch.Size(shape).numel()
    place = torch.arange(count, dtype=torch.int64)
    mixed = ((place + salt) * 2654435761 + (place * place) % 65521) % 65536
    return (mixed.to(torch.float32) / 65536 - 0.5).reshape(shape)


def _step(rows: int, width: int) -> list[Tensor]:
    """Logits, loss, gradients and updated weights of one step of a block ``width`` wide."""
    inputs = _fill(1, rows, width, salt=rows)
    weights = [_fill(width, width, salt=salt).requires_grad_() for salt in (1, 2, 3)]
    head = _fill(97, width, salt=5).requires_grad_()
    query, key, value = (F.linear(inputs, weight).unsqueeze(0) for weight in weights)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)[0]
    states = inputs + F.silu(mixed)
    states = states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6)
    logits = F.linear(states, head)[0]
    loss = F.cross_entropy(logits, torch.arange(rows) % 97)
    every = [*weights, head]
    optimiser = torch.optim.AdamW(every, lr=1e-3)
    loss.backward()
    optimiser.step()
    return [logits, loss, *(weight.grad for weight in every if weight.grad is not None), *every]
