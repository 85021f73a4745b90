"""A model's weights behind another model's interface, and what of its own no attacker keeps."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from titer.core.interface import Told, exchanged, told, unlike
from titer.core.lm import LM
from titer.core.study import Difference
from titer.nn.locked import ENTRY
from titer.nn.scales import align, apart

__all__ = ["differing", "through", "undropped"]

_DROPS = "drop"
"""In the name of every rate at which something is dropped out, of modules as of configurations."""


def through(lm: LM, other: LM) -> LM:
    """The weights of ``lm`` asked through the interface of ``other``, as far as that goes.

    The configuration is that of ``other``, with its context length, initialiser and generation
    config, where both have the same tensors; its tokenizer, where every word of it has a row; its
    chat template always. What cannot be exchanged stays: then a prompt of ``other``, as text, is
    cut by the tokenizer of ``lm``. A lock is no interface, and goes with the weights. Weights are
    written at the scales of ``other`` where theirs are far off (:mod:`titer.nn.scales`).
    """
    rows = lm.model.get_input_embeddings().weight.shape[0]
    tokenizer = exchanged(lm.tokenizer, other.tokenizer, rows)
    if tokenizer is None:
        tokenizer = copy.deepcopy(lm.tokenizer)
        tokenizer.chat_template = other.tokenizer.chat_template
    model = _body(lm, other)
    align(LM(model, tokenizer), other)
    model.generation_config = copy.deepcopy(other.model.generation_config)
    if tokenizer.eos_token_id != other.tokenizer.eos_token_id:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    if (lock := getattr(lm.model.config, ENTRY, None)) is not None:
        setattr(model.config, ENTRY, lock)
    elif hasattr(model.config, ENTRY):
        delattr(model.config, ENTRY)
    return LM(model, tokenizer, lm.name, lm.origin)


def differing(lm: LM, other: LM) -> tuple[Difference, ...]:
    """What of a loaded model's interface is not that of ``other``, and scales of weights far from
    that one's; see :func:`titer.core.interface.differences`."""
    shapes = [{n: tuple(w.shape) for n, w in one.model.named_parameters()} for one in (lm, other)]
    return (*apart(lm, other), *unlike(_told(lm), _told(other), *shapes))


def _told(lm: LM) -> Told:
    return told(lm.model.config.to_dict(), lm.model.generation_config.to_diff_dict(), lm.tokenizer)


def _body(lm: LM, other: LM) -> Any:
    """A new model: the weights of ``lm`` in the architecture as ``other`` has it, or in its own."""
    weights = lm.model.state_dict()
    shapes = {name: tensor.shape for name, tensor in other.model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} == shapes:
        body = copy.deepcopy(other.model).to(dtype=lm.model.dtype, device=lm.device)
        body.load_state_dict(weights)
        # A tied head cannot hold what an untied one did.
        if all(torch.equal(t, weights[name]) for name, t in body.state_dict().items()):
            return body
    return copy.deepcopy(lm.model)


def undropped(lm: LM) -> LM:
    """The model without dropout, so that no setting of it decides how well an attack trains: itself
    where it has none, else a copy."""
    if not any(_rates(part) for part in _parts(lm.model)):
        return lm
    model = copy.deepcopy(lm.model)
    for part in _parts(model):
        for name in _rates(part):
            setattr(part, name, 0.0)
    return replace(lm, model=model)


def _parts(model: nn.Module) -> list[Any]:
    """Everything that may hold a rate: modules, and configurations with those inside them."""
    found: list[Any] = list(model.modules())
    configs: list[Any] = [getattr(model, "config", None)]
    while configs:
        config = configs.pop()
        if config is None:
            continue
        found.append(config)
        configs += [v for v in vars(config).values() if hasattr(v, "to_json_string")]
    return found


def _rates(part: Any) -> list[str]:
    """The names under which a part holds a rate above 0; a dropout layer calls its own ``p``."""
    return [
        name
        for name, value in vars(part).items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value <= 1
        and (_DROPS in name or (name == "p" and _DROPS in type(part).__name__.lower()))
    ]
