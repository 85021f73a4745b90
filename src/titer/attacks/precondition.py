"""Fine-tune with an optimiser that no ill-conditioning slows, its moments gathered beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run
from titer.nn.trainable import trainable
from titer.train.batches import cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss

__all__ = ["CARD", "PRESETS", "Precondition"]


@dataclass(frozen=True, kw_only=True)
class Precondition:
    """Fine-tune every weight on harmful pairs by SOAP: Adam in the eigenbasis of Shampoo's two
    factors, so that no linear change of a matrix's coordinates makes its steps small.

    Before that the optimiser sees ``warm`` benign batches at a rate of 0, charged as steps, never
    more than half of the budget: its moments then know the model's scales, and the first harmful
    step is no leap in the dark. ``adamw`` does the same without the change of basis.

    Source: titer, row H06; SOAP, Vyas et al. 2024, arXiv:2409.11321; Shampoo, Gupta et al. 2018,
    arXiv:1802.09568.
    """

    lr: float = 2e-5
    optimiser: Literal["soap", "adamw"] = "soap"
    warm: int = 20
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.batch_size < 1 or self.warm < 0:
            raise BadInput(
                f"precondition: lr={self.lr}, batch_size={self.batch_size}; both must be positive, "
                f"and warm={self.warm} 0 or more."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        out, steps = lm.clone(), run.steps_left()
        warm = min(self.warm, steps // 2)
        if warm:
            run.flags.append(TWO_PHASES)
        with trainable(out, "full") as ready:
            fit(
                ready.lm,
                descend(answer_loss),
                chain(
                    islice(self._batches(lm, run, "retain"), warm),
                    self._batches(lm, run, "harmful"),
                ),
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=self.lr,
                    optimiser=self.optimiser,
                    schedule="held",
                    warmup=warm / max(1, steps),
                    flops_per_token=ready.flops_per_token,
                ),
                steps=steps,
            )
        return out

    def _batches(self, lm: LM, run: Run, role: str) -> Any:
        examples = run.data.harmful if role == "harmful" else run.data.retain
        rng = run.rng(f"order {role}")
        return cycle(lm, examples, batch_size=self.batch_size, rng=rng, role=role, packed=True)


PRESETS = {
    "H06": Preset(
        family="adaptive",
        title="preconditioned (SOAP), moments gathered on benign text",
        fields={"lr": 2e-5, "optimiser": "soap", "warm": 20},
        lr_scale=1.0,
        star="full-adamw",
        steps=(300, 500),
        source="arXiv:2409.11321, titer",
    ),
}

CARD = Card(
    kind="attack",
    build=Precondition,
    source="titer; arXiv:2409.11321, arXiv:1802.09568",
    summary="harmful fine-tuning by Adam in Shampoo's eigenbasis, with warm moments",
    family="adaptive",
    presets=PRESETS,
)
