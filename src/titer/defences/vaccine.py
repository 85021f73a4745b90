"""Vaccine: alignment that holds while every block's output is pushed the worst way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.taps import Site, pushed, sites, tapped
from titer.nn.trainable import Parameters
from titer.train.batches import Bundle
from titer.train.harden import Phase, Training, aligned, harden, logits
from titer.train.latent import steepest
from titer.train.objectives import cross_entropy
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "Vaccine"]


@dataclass(frozen=True, kw_only=True)
class Vaccine:
    """Descend the refusals' loss at ``e_l + ε_l``, ``ε`` the joint push of length ``rho`` on the
    outputs at ``site`` of all blocks that raises that loss most.

    The length spans blocks and the whole batch, so that the push on a row shrinks as batches grow.
    ``retain_weight`` adds the cross-entropy of retain text without a push, 0 in the paper.

    Source: Huang et al. 2024, arXiv:2402.01109. ρ = 2 is given for the paper's main runs, 0.1 is
    its repository's default.
    Departs: outputs of blocks, as the paper's layers; its repository pushes those of attention
    (``site=attention``).
    """

    rho: float = 2.0
    site: Site = "block"
    retain_weight: float = 0.0
    lr: float = 1e-3
    schedule: Schedule = "cosine"
    batch_size: int = 5
    weight_decay: float = 0.1
    parameters: Parameters = "lora"
    rank: int = 8
    alpha: float = 4.0

    def __post_init__(self) -> None:
        if not (0 <= self.rho < math.inf and 0 <= self.retain_weight < math.inf):
            raise BadInput(
                f"vaccine: rho={self.rho} and retain_weight={self.retain_weight} must not be "
                "negative."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        places = sites(lm.model, self.site)

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            safe, modules = bundle["safe"], tapped(model, places)

            def declined() -> Tensor:
                return cross_entropy(logits(model, safe), safe.labels)

            with pushed(modules, steepest(modules, declined, self.rho)):
                loss = declined()
            if self.retain_weight:
                kept = bundle["retain"]
                loss = loss + self.retain_weight * cross_entropy(logits(model, kept), kept.labels)
            loss.backward()
            return {"loss": float(loss.detach())}

        return harden(
            lm,
            run,
            Training.of(self),
            aligned(run, self.retain_weight, harmful=False),
            lambda _ready: [Phase(grad=grad, passes={"safe": 1.0})],
            schedule=self.schedule,
        )


PRESETS = {
    "vaccine-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-3, "batch_size": 32, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "vaccine-paper": Preset(
        title="Llama-2-7B", fields={}, steps=(250, 20000), source="arXiv:2402.01109"
    ),
    "vaccine-code": Preset(
        title="as the repository of Booster runs it: pushes on attention, ρ 5",
        fields={"rho": 5.0, "site": "attention", "lr": 5e-4, "batch_size": 10},
        steps=(250, 10000),
        source="arXiv:2409.01586, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=Vaccine,
    source="arXiv:2402.01109",
    summary="refusals learned under the worst push on every block's output",
    family="alignment",
    departures="blocks' outputs where the code pushes attention's. Data: hazard prompts with "
    "refusals. 2 passes a step. Claims resistance and stability. Known breakers: more harmful "
    "data (arXiv:2409.01586), rates from 8e-5 up (arXiv:2505.12186). It hides no knowledge: "
    "where harm is what a model knows, refusing is all it teaches",
    presets=PRESETS,
)
