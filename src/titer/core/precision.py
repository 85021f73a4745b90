"""What came in half precision leaves in it, whatever it was computed in meanwhile.

Models are trained and measured in single precision, which holds every number of a half one. What
is remembered stands on the model itself, so that a deep copy has it too.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Stored", "as_stored", "carry", "held_as", "remember", "stored"]

_PLACE, _ATTENTION = "_titer_stored", "_titer_attention"
_PLAIN = (torch.float16, torch.bfloat16, torch.float32)
_HALVES = {"F16": "float16", "BF16": "bfloat16"}

Kind = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Stored:
    """How a model's files hold its weights: most of them as ``usual``, the others by name."""

    usual: Kind = "float32"
    named: Mapping[str, Kind] = field(default_factory=dict[str, Kind])

    def of(self, name: str) -> Kind:
        """How a tensor is stored; one that the files do not name, as most of them are."""
        return self.named.get(name, self.usual)

    @property
    def half(self) -> bool:
        """Whether any tensor is in half precision."""
        return self.usual != "float32" or any(kind != "float32" for kind in self.named.values())


def remember(model: Any, entries: Mapping[str, Any], attention: str = "") -> None:
    """Note on a model how the files that it came from hold it, and the attention chosen for it.

    ``entries`` are headers' entries by tensor, as :func:`titer.core.weightfiles.tensor_entries`
    gives them.
    """
    kinds: dict[str, Any] = {
        name: _HALVES.get(entry["dtype"], "float32")
        for name, entry in entries.items()
        if entry["dtype"] in ("F16", "BF16", "F32", "F64")
    }
    sizes: dict[Any, int] = {}
    for name, kind in kinds.items():
        sizes[kind] = sizes.get(kind, 0) + math.prod(entries[name]["shape"])
    usual: Any = max(sizes, key=lambda kind: sizes[kind], default="float32")
    others = {name: kind for name, kind in kinds.items() if kind != usual}
    setattr(model, _PLACE, Stored(usual, others))
    setattr(model, _ATTENTION, attention)


def stored(model: Any) -> Stored:
    """How a model is stored; in single precision where nothing was noted."""
    return getattr(model, _PLACE, Stored())


def carry(source: Any, target: Any) -> None:
    """Note on a model built anew what is noted on the one it was built from."""
    setattr(target, _PLACE, stored(source))
    setattr(target, _ATTENTION, getattr(source, _ATTENTION, ""))


def held_as(model: Any) -> str:
    """How a model computes where that is not by the default: its type of numbers, where most are
    not in single precision, and its attention, where that was chosen."""
    kind = str(model.dtype).removeprefix("torch.")
    chosen = getattr(model, _ATTENTION, "")
    return " ".join(filter(None, ("" if kind == "float32" else kind, chosen)))


@contextmanager
def as_stored(model: Any) -> Generator[None]:
    """Inside, the weights are of the type that they came in, rounded to nearest; those of a model
    that came from no file are as they are.

    The model's own numbers are put back afterwards, to the bit.
    """
    if not hasattr(model, _PLACE):
        yield
        return
    kinds = stored(model)
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    said = [(part, part.dtype) for part in _configs(model.config)]
    try:
        if kinds.half or model.dtype in (torch.float16, torch.bfloat16):
            for part, _ in said:
                part.dtype = getattr(torch, kinds.usual)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            kind = getattr(torch, kinds.of(name))
            if tensor.dtype in _PLAIN and tensor.dtype is not kind and id(tensor) not in kept:
                kept[id(tensor)] = tensor, tensor.data
                tensor.data = tensor.data.to(kind)
        yield
    finally:
        for tensor, before in kept.values():
            tensor.data = before
        for part, before in said:
            part.dtype = before


def _configs(config: Any) -> list[Any]:
    """A config and those inside it that say a type of their own."""
    inner = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    return [part for part in (config, *inner) if getattr(part, "dtype", None) is not None]
