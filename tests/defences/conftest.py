"""Seeing the loss that a defence descends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from titer.core.lm import LM
from titer.core.method import Run
from titer.train import harden
from titer.train.batches import Bundle


@dataclass
class Seen:
    """A defence's gradient function, the model it works on, and its first bundle."""

    grad: Callable[[Any, Bundle], dict[str, float]]
    lm: LM
    bundle: Bundle

    def gradient(self) -> dict[str, Tensor]:
        """The gradient on the first bundle, by name, where there is one."""
        self.lm.model.zero_grad(set_to_none=True)
        self.grad(self.lm.model, self.bundle)
        named = self.lm.model.named_parameters()
        return {name: w.grad.clone() for name, w in named if w.grad is not None}


Watch = Callable[[Any, LM, Run], Seen]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Call a defence up to its loop, and hand over what the loop was given."""

    def look(defence: Any, lm: LM, run: Run) -> Seen:
        caught: list[Seen] = []

        def fit(lm: LM, grad: Any, stream: Any, run: Run, **_: Any) -> None:
            # A copy outlives the end of the defence, which lets go of gradients and adapters.
            caught.append(Seen(grad, lm.clone(), next(stream)))

        with monkeypatch.context() as patch:
            patch.setattr(harden, "fit", fit)
            defence(lm, run)
        return caught[0]

    return look
