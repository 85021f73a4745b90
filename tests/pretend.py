"""A device that is not there: its tensors are computed on the CPU, and mixing them with tensors of
the CPU fails as on a graphics card. So that what would break there breaks here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Of all kinds only this one needs no driver, and gradients work on it.
AWAY = torch.device("meta")

_aten = torch.ops.aten
_MIXING = {
    _aten._to_copy.default,
    _aten.copy_.default,
    # A place may be told by an index on the CPU.
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}


class Away(torch.Tensor):
    """A tensor that says it is on :data:`AWAY`; ``here`` is what it holds."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Away:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            layout=here.layout,
            device=AWAY,
        )
        made.here = here
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Away({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carried_out(func, args, kwargs or {})


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """What operators take and give, part by part; torch's own way was most of what a test took."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([_mapped(function, part) for part in value])
    if kind is dict:
        return {key: _mapped(function, part) for key, part in value.items()}
    return function(value)


def _carried_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors: list[torch.Tensor] = []

    def seen(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        return value

    _mapped(seen, (args, kwargs))
    away = any(isinstance(tensor, Away) for tensor in tensors)
    stray = any(not isinstance(tensor, Away) and tensor.dim() for tensor in tensors)
    if away and stray and func not in _MIXING:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    if (asked := kwargs.get("device")) is not None:
        away = torch.device(asked).type == AWAY.type
        kwargs = {**kwargs, "device": torch.device("cpu") if away else asked}
    elif func is _aten.copy_.default:
        away = isinstance(args[0], Away)
    known: dict[int, Away] = {}

    def fetched(value: Any) -> Any:
        if not isinstance(value, Away):
            return value
        known[id(value.here)] = value
        return value.here

    def sent(value: Any) -> Any:
        if id(value) in known:  # what was changed in place is itself
            return known[id(value)]
        return Away(value) if away and isinstance(value, torch.Tensor) else value

    plain_args, plain_kwargs = _mapped(fetched, (args, kwargs))
    return _mapped(sent, func(*plain_args, **plain_kwargs))


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carried_out(func, args, kwargs or {})


class _Python(TorchFunctionMode):
    """What makes tensors of lists does so out of the other mode's sight."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            device = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            return made if device is None else made.to(device)
        if func is torch.Tensor.tolist and isinstance(args[0], Away):
            return args[0].here.tolist()
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            where = args[1] if isinstance(args[1], tuple) else (args[1],)
            where = tuple(torch.tensor(part) if isinstance(part, list) else part for part in where)
            args = (args[0], where, *args[2:])
        return func(*args, **kwargs)


def send(model: nn.Module) -> None:
    """Move a model there, in place; tied weights stay tied."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fresh = nn.Parameter(Away(weight.data), weight.requires_grad)
                module._parameters[name] = moved.setdefault(id(weight), fresh)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Away(buffer)


@contextmanager
def pretended() -> Iterator[None]:
    """Inside, the device is there, and its optimisers are fused as on any."""
    name = "_get_fused_kernels_supported_devices"
    homes = [module for module in list(sys.modules.values()) if name in vars(module)]
    own = [getattr(module, name) for module in homes]
    try:
        for module in homes:
            setattr(module, name, lambda: ["cpu", AWAY.type])
        with _Python(), _Dispatch():
            yield
    finally:
        for module, function in zip(homes, own, strict=True):
            setattr(module, name, function)
