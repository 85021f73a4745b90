"""Is the gradient that a defence adds up the one of what it says it descends?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from titer.conformance import Architecture, tiny_lm
from titer.core.lm import LM
from titer.train.grads import displaced, flat, trained


def double(architecture: Architecture = "gpt2", seed: int = 0) -> LM:
    """A tiny model in double precision, in which a difference of two losses is exact enough. Norms
    of Llama come down to single precision on the way."""
    lm = tiny_lm(architecture, seed)
    lm.model.set_attn_implementation("eager")
    return LM(lm.model.double(), lm.tokenizer, lm.name)


def added(seen: Any) -> Tensor:
    """The gradient that the defence adds on its first bundle, as a vector."""
    found = seen.gradient()
    return flat(
        [
            found.get(name, torch.zeros_like(weight))
            for name, weight in seen.lm.model.named_parameters()
            if weight.requires_grad
        ]
    )


def difference(model: nn.Module, loss: Callable[[], Tensor], vector: Tensor, by: float) -> float:
    """The derivative of a loss along a vector, by central differences."""
    weights, ends = trained(model), []
    for sign in (1.0, -1.0):
        with displaced(weights, vector, sign * by), torch.no_grad():
            ends.append(float(loss()))
    return (ends[0] - ends[1]) / (2.0 * by)


def agrees(seen: Any, loss: Callable[[], Tensor], tolerance: float = 1e-6) -> None:
    """Along random directions, and along itself, the gradient is the loss's central difference."""
    got = added(seen)
    assert float(got.norm()) > 1e-6, "there is no gradient to compare"
    draw = torch.Generator().manual_seed(0)
    for turn in range(3):
        vector = torch.randn(got.shape, generator=draw, dtype=got.dtype) if turn else got
        vector = vector / vector.norm()
        found = difference(seen.lm.model, loss, vector, 1e-5)
        assert abs(found - float(got @ vector)) <= tolerance * float(got.norm()), (
            turn,
            found,
            float(got @ vector),
        )
