"""Modules that compute what they always did and hand no gradient back.

The kind of lock that a release can only carry as code of its own: the weights in the folder are
ordinary, and stock ``transformers`` loads them without it. titer runs no code of others, so such a
release is told apart by an entry of its configuration, and :func:`relock` does what its code would.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.lm import LM
from titer.core.precision import carry
from titer.nn.chance import seeded

__all__ = ["ENTRY", "fresh", "is_locked", "lock_backward", "plain", "relock"]

ENTRY = "titer_lock"
"""The configuration's entry, and its only value so far."""
_BACKWARD = "backward"


class _Wall(torch.autograd.Function):
    """The identity, with a gradient of zero.

    Not ``detach``: then a training script would stop with an error, and say so.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return torch.zeros_like(grad_outputs[0])


class _Locked:
    """Mixed into a layer's class: its output is behind a wall."""

    def forward(self, *args: Any, **more: Any) -> Any:
        found: Any = super().forward(*args, **more)  # type: ignore[misc]
        if isinstance(found, tuple):  # a router's choice and its scores
            return tuple(_walled(value) for value in found)
        return _walled(found)


def _walled(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return _Wall.apply(value)


def lock_backward(lm: LM) -> None:
    """Lock every layer that has weights, in place, and say so in the configuration."""
    for module in lm.model.modules():
        kind = type(module)
        if next(module.parameters(recurse=False), None) is not None and not _is(module):
            # Under its own name, by which layers of some architectures are known.
            module.__class__ = type(kind.__name__, (_Locked, kind), {})
    setattr(lm.model.config, ENTRY, _BACKWARD)


def is_locked(module: nn.Module) -> bool:
    """Whether the module, or one inside it, hands no gradient back."""
    return any(_is(part) for part in module.modules())


def _is(module: nn.Module) -> bool:
    return isinstance(module, _Locked)


def relock(lm: LM) -> LM:
    """The model as its release would run: locked in place where its configuration says so."""
    if getattr(lm.model.config, ENTRY, None) == _BACKWARD:
        lock_backward(lm)
    return lm


def plain(lm: LM) -> LM:
    """The same weights in stock modules: no hook, no code of the model's own; a new model.

    ``requires_grad`` is as it was, which binds nobody: whoever trains sets it.
    """
    out = fresh(lm, 0)
    out.model.load_state_dict(lm.model.state_dict())
    return out


def fresh(lm: LM, seed: int) -> LM:
    """A model of the same shape in stock modules whose weights are drawn by ``seed``."""
    config = copy.deepcopy(lm.model.config)
    if hasattr(config, ENTRY):
        delattr(config, ENTRY)
    with seeded(seed, lm.device):
        model = type(lm.model)(config).to(device=lm.device, dtype=lm.model.dtype)
    model.generation_config = copy.deepcopy(lm.model.generation_config)
    carry(lm.model, model)
    for ours, theirs in zip(model.parameters(), lm.model.parameters(), strict=True):
        ours.requires_grad_(theirs.requires_grad)
    return LM(model, lm.tokenizer, lm.name)
