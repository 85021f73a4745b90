"""Attention heads one by one: what each puts out, scaled or shifted. L layers, H heads, D width of
a head, B rows, T tokens.

A shift is a constant, so it can be folded into a bias and the model stays an ordinary one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.config import attention_heads
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.biases import could_have_bias, switch_on
from titer.nn.hooks import blocks

__all__ = ["Heads", "fold", "heads", "rescaled", "shifted"]

_OUT = ("attn.o_proj", "attn.c_proj", "attn.out_proj", "attention.dense")


@dataclass(frozen=True)
class Heads:
    """A model's heads: ``out``, the projections that read them, by layer; ``shape``, (L, H, D).

    Where the architecture gives that projection no bias, a shift is folded into the bias of the
    values (``values``), which ``shared`` heads next to one another have in common; else it is 1.
    """

    out: tuple[nn.Module, ...]
    values: tuple[nn.Module, ...]
    shape: tuple[int, int, int]
    shared: int

    @property
    def slots(self) -> tuple[int, int, int]:
        """(L, H / shared, D): what can be shifted apart from the rest."""
        layers, count, width = self.shape
        return layers, count // self.shared, width

    def spread(self, slots: Tensor) -> Tensor:
        """From slots to heads: (L, H / shared, …) to (L, H, …)."""
        return slots.repeat_interleave(self.shared, 1)


def heads(lm: LM) -> Heads:
    """Find the heads of a Hugging Face causal LM.

    Raises:
        BadInput: the attention is of no known form, or has nowhere to keep a shift.
    """
    config = lm.model.config
    count = attention_heads(config)
    found = [_ending(block, _OUT) for block in blocks(lm.model)]
    out = [part for part in found if part is not None]
    if len(out) != len(found) or not out:
        raise BadInput(f"{lm.name}: no output projection of attention is named {', '.join(_OUT)}.")
    weight: Any = out[0].weight
    width = (weight.shape[0] if _transposed(out[0]) else weight.shape[1]) // count
    shape = (len(out), count, width)
    if getattr(out[0], "bias", None) is not None or could_have_bias(
        lm.model, "attention_bias", out[0]
    ):
        return Heads(tuple(out), (), shape, 1)
    values = [_ending(block, ("attn.v_proj",)) for block in blocks(lm.model)]
    kept = [part for part in values if part is not None and getattr(part, "bias", None) is not None]
    if len(kept) != len(out):
        raise BadInput(
            f"{lm.name}: a {type(lm.model).__name__} has no bias at its heads that a shift could "
            "be folded into; Llama, Qwen and GPT-2 have."
        )
    biases: Any = kept[0].bias
    return Heads(tuple(out), tuple(kept), shape, count * width // biases.numel())


@contextmanager
def rescaled(found: Heads, scale: Tensor) -> Iterator[None]:
    """Inside, each head's output is multiplied by ``1 + scale``, (L, H, D)."""
    with _changed(found, lambda z, layer: z * (1 + scale[layer].to(z.dtype))):
        yield


@contextmanager
def shifted(found: Heads, shift: Tensor) -> Iterator[None]:
    """Inside, ``shift``, (L, H / shared, D), is added to each head's output."""
    with _changed(found, lambda z, layer: z + found.spread(shift)[layer].to(z.dtype)):
        yield


@contextmanager
def _changed(found: Heads, change: Any) -> Iterator[None]:
    _, count, width = found.shape

    def hook(layer: int) -> Any:
        def put(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            flat = inputs[0]
            apart = flat.view(*flat.shape[:-1], count, width)
            return (change(apart, layer).reshape(flat.shape), *inputs[1:])

        return put

    handles = [part.register_forward_pre_hook(hook(i)) for i, part in enumerate(found.out)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def fold(lm: LM, found: Heads, shift: Tensor) -> None:
    """Write ``shift``, (L, H / shared, D), into the biases of ``lm``, in place, for good.

    Where biases are a switch of the configuration (Llama's ``attention_bias``) it is turned on, and
    the biases that come with it are zero.
    """
    if found.values:
        for part, row in zip(found.values, shift, strict=True):
            bias: Any = part.bias
            bias += row.flatten().to(bias)
        return
    if getattr(found.out[0], "bias", None) is None:
        switch_on(lm, "attention_bias")
    for part, row in zip(found.out, shift, strict=True):
        weight, kept = _float_weight(part), part.bias
        assert isinstance(kept, Tensor)
        kept += (weight @ row.flatten().to(weight)).to(kept.dtype)


def _float_weight(part: nn.Module) -> Tensor:
    """The weight as (out, in), single precision at least."""
    weight: Any = part.weight
    return (weight.T if _transposed(part) else weight).float()


def _transposed(part: nn.Module) -> bool:
    """GPT-2's Conv1D keeps (in, out)."""
    return type(part).__name__ == "Conv1D"


def _ending(block: nn.Module, endings: tuple[str, ...]) -> nn.Module | None:
    named = (part for name, part in block.named_modules() if name.endswith(endings))
    return next(named, None)
