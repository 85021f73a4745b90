"""Biases that an architecture has by a switch of its configuration, so that they can be saved."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from titer.core.config import text_config
from titer.core.lm import LM

__all__ = ["could_have_bias", "switch_on"]


def _with(model: Any, switch: str) -> Any:
    """A model without weights like this one but with the switch turned on."""
    config = copy.deepcopy(model.config)
    setattr(text_config(config), switch, True)
    with torch.device("meta"):
        return type(model)(config)


def could_have_bias(model: Any, switch: str, layer: nn.Module) -> bool:
    """Whether the layer would have a bias with the switch on."""
    if not hasattr(text_config(model.config), switch):
        return False
    name = next(key for key, part in model.named_modules() if part is layer)
    return getattr(_with(model, switch).get_submodule(name), "bias", None) is not None


def switch_on(lm: LM, switch: str) -> None:
    """Turn the switch on, in place; the biases that come with it are zero."""
    present = dict(lm.model.named_parameters())
    for key, wanted in _with(lm.model, switch).named_parameters():
        if key not in present:
            home, _, name = key.rpartition(".")
            part = lm.model.get_submodule(home)
            zeros = torch.zeros(wanted.shape, dtype=lm.model.dtype, device=lm.device)
            trains = next(part.parameters()).requires_grad
            part.register_parameter(name, nn.Parameter(zeros, requires_grad=trains))
    setattr(text_config(lm.model.config), switch, True)
