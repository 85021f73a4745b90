"""One form for every model of the same function, as far as scales and heads' bases go.

Scales that cancel between a weight and the next change no output and change training a great deal:
a fixed learning rate, AdamW's steps and adapters are all made for weights of ordinary size. So a
lock can hide in them, and this takes it out. In place, in double precision. O output, I input, D
residual width, H width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from titer.core.lm import LM
from titer.nn.hooks import blocks
from titer.nn.reparametrise import Head, by_path, heads, layout, plain_norms, put

__all__ = ["balance_head", "fold"]


def fold(lm: LM) -> None:
    """Write the same function in balanced weights.

    Norms' scales go into their readers and become 1 (a tied head is untied). What a head reads and
    writes is split evenly: both factors of a head's output–value product have its singular values'
    square roots. Gated hidden units come in with a row as long as the column they go out with.
    Queries and keys stay as they are, and so does the MLP of a model without gates: its
    nonlinearity lets no scale through.

    Raises:
        BadInput: an unknown architecture, or a norm that cannot be made plain.
    """
    plain_norms(lm)
    for head in heads(lm):
        balance_head(head)
    _balance_hidden(lm)


def balance_head(head: Head) -> None:
    """In place: factor what the head writes times what it reads anew, ``(U √S)(√S Vᵀ)``."""
    mixed_OH = torch.cat([columns.double() for columns in head.mixed])
    values_HI = head.values.double()
    if head.bias is not None:  # one more input that is always one
        values_HI = torch.cat([values_HI, head.bias.double()[:, None]], dim=1)
    # By two small factors: the product itself is large and of low rank.
    left_OH, upper = torch.linalg.qr(mixed_OH)
    right_IH, lower = torch.linalg.qr(values_HI.T)
    u, s, vt = torch.linalg.svd(upper @ lower.T)
    root = s.sqrt()
    mixed_OH = left_OH @ (u * root)
    values_HI = root[:, None] * (vt @ right_IH.T)
    if head.bias is not None:
        put(head.bias, values_HI[:, -1])
        values_HI = values_HI[:, :-1]
    put(head.values, values_HI)
    for columns, value in zip(head.mixed, mixed_OH.chunk(len(head.mixed)), strict=True):
        put(columns, value)


def _balance_hidden(lm: LM) -> None:
    names, maps = layout(lm), by_path(lm)
    if len(names.up) < 2:
        return
    for layer in range(len(blocks(lm.model))):
        up, down = maps[f"{layer}.{names.up[1]}"], maps[f"{layer}.{names.down}"]
        scale = _ratio(down.weight_OI.double().norm(dim=0), up.weight_OI.double().norm(dim=1))
        put(up.weight_OI, up.weight_OI.double() * scale[:, None])
        if up.bias_O is not None:
            put(up.bias_O, up.bias_O.double() * scale)
        put(down.weight_OI, down.weight_OI.double() / scale)


def _ratio(out: Tensor, into: Tensor) -> Tensor:
    """``√(out / into)``, and 1 where a unit is silent."""
    silent = (out == 0) | (into == 0)
    return torch.where(silent, torch.ones_like(out), (out / into.clamp(min=1e-300)).sqrt())
