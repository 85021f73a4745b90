"""Put the weights into stock modules, then fine-tune."""

from __future__ import annotations

from dataclasses import dataclass

from titer.attacks.finetune import Finetune
from titer.method import LM, Card, Preset, Run
from titer.nn.locked import plain
from titer.train.optimisers import Optimiser

__all__ = ["CARD", "PRESETS", "PlainModules"]


@dataclass(frozen=True, kw_only=True)
class PlainModules:
    """Load the weights into the library's own classes and fine-tune those.

    Whatever a release does in its modules, hooks, ``requires_grad`` or backward pass stays behind.
    A lock on the backward pass alone is void: whoever can compute the function has its gradient.

    Source: titer.
    """

    lr: float = 2e-5
    batch_size: int = 16
    optimiser: Optimiser = "adamw"

    def __post_init__(self) -> None:
        self._train()

    def __call__(self, lm: LM, run: Run) -> LM:
        return self._train()(plain(lm), run)

    def _train(self) -> Finetune:
        return Finetune(lr=self.lr, batch_size=self.batch_size, optimiser=self.optimiser)


PRESETS = {
    "L02": Preset(
        family="locks",
        title="in stock modules, then fine-tuned",
        fields={"lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        steps=(300, 500),
        source="titer",
    ),
    "L13": Preset(
        family="locks",
        title="in stock modules, then SGD with Nesterov momentum",
        fields={"lr": 1e-3, "optimiser": "sgd-nesterov"},
        lr_scale=1.0,
        star="full-sgd-nesterov",
        steps=(300, 500),
        source="titer",
    ),
}

CARD = Card(
    kind="attack",
    build=PlainModules,
    source="titer",
    summary="the weights in stock modules, then every weight fine-tuned",
    family="locks",
    presets=PRESETS,
)
