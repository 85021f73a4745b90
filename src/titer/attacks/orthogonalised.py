"""Fine-tune with steps that are orthogonal, each tensor at a rate of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.locked import plain
from titer.nn.trainable import trainable
from titer.train.batches import Batch, cycle
from titer.train.loop import Recipe, fit
from titer.train.objectives import answer_loss
from titer.train.orthogonal import relative

__all__ = ["CARD", "PRESETS", "Orthogonalised"]


@dataclass(frozen=True, kw_only=True)
class Orthogonalised:
    """Minimise the cross-entropy of harmful answers by orthogonal steps relative to each tensor.

    Every matrix moves along the orthogonal factor of its gradient, every other tensor along its
    gradient, by the share ``lr`` of its own norm, which falls to zero on a line. So a lock that
    gives whole tensors other scales does nothing. Scales that differ within a tensor are not met by
    it: ``gain_lock`` and ``spectral_brake`` withstand this, and fall to ``fold``. No clipping.
    Stock modules first, as in ``plain_modules``.

    Source: Muon, Jordan et al. 2024; arXiv:2502.16982.
    Departs: momentum is applied after orthogonalising; steps are relative to each tensor's norm,
    as in LARS, arXiv:1708.03888.
    """

    lr: float = 0.001
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.batch_size < 1:
            raise BadInput(
                f"orthogonalised: lr={self.lr}, batch_size={self.batch_size}; both are positive."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        out = plain(lm)
        batches = cycle(
            out,
            run.data.harmful,
            batch_size=self.batch_size,
            rng=run.rng("order harmful"),
            role="harmful",
        )
        with trainable(out, "full") as ready:

            def grad(model: Any, batch: Batch) -> dict[str, float]:
                loss = answer_loss(model, batch)
                loss.backward()
                relative(ready.weights)
                return {"loss": float(loss.detach())}

            fit(
                out,
                grad,
                batches,
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=self.lr,
                    optimiser="sgd-nesterov",
                    schedule="linear",
                    clip=None,
                    flops_per_token=ready.flops_per_token,
                ),
                steps=run.steps_left(),
            )
        return out


PRESETS = {
    "L05": Preset(
        family="locks",
        title="orthogonal steps, each tensor at its own rate",
        fields={"lr": 0.001},
        steps=(300, 500),
        source="arXiv:2502.16982",
    ),
}

CARD = Card(
    kind="attack",
    build=Orthogonalised,
    source="Muon (Jordan et al. 2024), arXiv:2502.16982",
    summary="fine-tuning by orthogonal steps relative to each tensor's norm",
    family="locks",
    departures="momentum after orthogonalising; steps relative to each tensor's norm",
    presets=PRESETS,
)
