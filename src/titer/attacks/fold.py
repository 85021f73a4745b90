"""Fold what cancels, then fine-tune."""

from __future__ import annotations

from dataclasses import dataclass

from titer.attacks.finetune import Finetune
from titer.method import LM, Card, Preset, Run
from titer.nn.fold import fold
from titer.nn.locked import plain
from titer.nn.trainable import Parameters
from titer.train.optimisers import Optimiser

__all__ = ["CARD", "PRESETS", "Fold"]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Multiply linear chains together and factor them evenly anew, then fine-tune.

    Norms' scales, compensators between values and outputs, and scales of hidden units cancel, so
    they are no part of the function; see :func:`titer.nn.fold.fold`. A lock that slows training by
    them is gone in closed form. Stock modules first, as in ``plain_modules``. Llama, Mistral,
    Qwen2, Qwen3 and GPT-2 are known.

    Source: titer; the symmetries are those of Ashkboos et al. 2024, arXiv:2401.15024, and of
    scales.
    """

    lr: float = 2e-5
    batch_size: int = 16
    parameters: Parameters = "full"
    optimiser: Optimiser = "adamw"

    def __post_init__(self) -> None:
        self._train()

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if not run.affords():
            return lm.clone()
        out = plain(lm)
        fold(out)
        return self._train()(out, run)

    def _train(self) -> Finetune:
        return Finetune(
            lr=self.lr,
            batch_size=self.batch_size,
            parameters=self.parameters,
            optimiser=self.optimiser,
        )


PRESETS = {
    "L01": Preset(
        family="locks",
        title="scales and compensators folded, then fine-tuned",
        fields={"lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        steps=(300, 500),
        source="titer",
    ),
    "L10": Preset(
        family="locks",
        title="folded, then LoRA r16",
        fields={"lr": 2e-4, "parameters": "lora"},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(256, 256),
        source="titer",
    ),
    "L12": Preset(
        family="locks",
        title="folded, then SGD with Nesterov momentum",
        fields={"lr": 1e-3, "optimiser": "sgd-nesterov"},
        lr_scale=1.0,
        star="full-sgd-nesterov",
        steps=(300, 500),
        source="titer",
    ),
}

CARD = Card(
    kind="attack",
    build=Fold,
    source="titer; after arXiv:2401.15024",
    summary="scales and compensators that cancel folded away, then fine-tuned",
    family="locks",
    presets=PRESETS,
)
