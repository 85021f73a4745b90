"""An adversary in training beside a model: the inner player of a bi-level defence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.errors import Diverged
from titer.hypernet.adversary import Adversary
from titer.hypernet.objectives import Objective, attack_loss
from titer.train.batches import Bundle
from titer.train.optimisers import build_optimiser

__all__ = ["Sparring"]


class Sparring:
    """An adversary with an optimiser of its own, for a defence whose steps the loop takes.

    It stands where K gradient steps of a simulated attacker would: call it with the model at hand
    and it takes one step of AdamW on its own weights, clipped at 1. Nothing of the model changes,
    gradients included.
    """

    def __init__(
        self, adversary: Adversary, wants: Objective, *, lr: float, coherent: float = 0.0
    ) -> None:
        self.adversary, self.wants, self.coherent = adversary, wants, coherent
        self._optimiser = build_optimiser(
            "adamw", [{"params": adversary.weights, "lr": lr, "weight_decay": 0.0}]
        )

    def __call__(self, model: Any, bundle: Bundle) -> float:
        """One step; returns the loss before it.

        Raises:
            Diverged: the loss or its gradient is not finite.
        """
        loss = attack_loss(self.adversary, model, bundle, self.wants, coherent=self.coherent)
        return self.step(loss, torch.autograd.grad(loss, self.adversary.weights))

    def step(self, loss: Tensor, grads: Sequence[Tensor]) -> float:
        """One step along a gradient that is known; returns the loss.

        Raises:
            Diverged: as for a call.
        """
        weights = self.adversary.weights
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        value, norm = float(loss.detach()), float(nn.utils.clip_grad_norm_(weights, 1.0))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise Diverged(
                f"the adversary's loss is {value} and its gradient norm {norm}; lower its rate."
            )
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return value
