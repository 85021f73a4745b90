"""Vaccine on a few blocks at a time, those that harmful answers pull at most."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.hooks import blocks
from titer.nn.taps import Site, pushed, sites, tapped
from titer.nn.trainable import Parameters
from titer.train.batches import Batch, Bundle
from titer.train.grads import still, trained
from titer.train.harden import Phase, Source, Training, aligned, harden, logits
from titer.train.latent import slopes, steepest
from titer.train.objectives import cross_entropy
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "TVaccine", "chosen"]


def chosen(weights: Sequence[float], count: int, rng: random.Random) -> list[int]:
    """``count`` places drawn one after the other without replacement, each with a chance in
    proportion to its weight among those left; all places if there are no more."""
    left = list(range(len(weights)))
    found: list[int] = []
    while left and len(found) < count:
        own = [max(weights[place], 1e-12) for place in left]
        found.append(left.pop(rng.choices(range(len(left)), own)[0]))
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class TVaccine:
    """Vaccine restricted to ``count`` blocks: only these are pushed, and only these train.

    A block's chance goes with the norm of the gradient by its output of the loss on ``probe``
    harmful answers, found anew every ``refresh`` steps. Blocks are drawn every ``hold`` steps.

    Source: Liu et al. 2024, arXiv:2410.09760, and its repository.
    Departs: blocks are held for 20 steps as in the repository, where the paper draws at every step
    (``hold=1``); outputs of blocks as in :class:`~titer.defences.vaccine.Vaccine`; a frozen block
    gets no gradient but its optimiser state stays, and its memory is not saved.
    """

    count: int = 8
    rho: float = 3.0
    site: Site = "block"
    refresh: int = 200
    hold: int = 20
    probe: int = 1
    retain_weight: float = 0.0
    lr: float = 1e-3
    schedule: Schedule = "cosine"
    batch_size: int = 10
    weight_decay: float = 0.1
    parameters: Parameters = "lora"
    rank: int = 8
    alpha: float = 4.0

    def __post_init__(self) -> None:
        if min(self.count, self.refresh, self.hold, self.probe) < 1:
            raise BadInput("t_vaccine: count, refresh, hold and probe must be at least 1.")
        if not (0 <= self.rho < math.inf and 0 <= self.retain_weight < math.inf):
            raise BadInput(
                f"t_vaccine: rho={self.rho} and retain_weight={self.retain_weight} must not be "
                "negative."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        sources = aligned(run, self.retain_weight)
        sources["harmful"] = Source(examples=run.data.harmful, every=self.refresh, rows=self.probe)
        return harden(
            lm,
            run,
            Training.of(self),
            sources,
            lambda _ready: [self._phase(lm, run)],
            schedule=self.schedule,
        )

    def _phase(self, lm: LM, run: Run) -> Phase:
        places, begun = sites(lm.model, self.site), run.spent.steps
        norms, few = [1.0] * len(places), list(range(len(places)))
        rng = run.rng("blocks")

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            nonlocal norms, few
            modules, safe = tapped(model, places), bundle["safe"]
            if (probe := bundle.parts.get("harmful")) is not None:
                with still(model):
                    found = slopes(modules, lambda: _loss(model, probe))
                norms = [float(one.norm()) for one in found]
            if (run.spent.steps - begun) % self.hold == 0:
                few = chosen(norms, self.count, rng)
            touched = [modules[place] for place in few]
            with pushed(touched, steepest(touched, lambda: _loss(model, safe), self.rho)):
                loss = _loss(model, safe)
            if self.retain_weight:
                loss = loss + self.retain_weight * _loss(model, bundle["retain"])
            loss.backward()
            for weight, home in _homes(model):
                if home not in few:
                    weight.grad = None
            return {"loss": float(loss.detach())}

        return Phase(grad=grad, passes={"safe": 1.0})


def _loss(model: Any, batch: Batch) -> Tensor:
    return cross_entropy(logits(model, batch), batch.labels)


def _homes(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """Each weight that trains with its block, −1 where it is outside of all."""
    within = {
        id(weight): index
        for index, block in enumerate(blocks(model))
        for weight in block.parameters()
    }
    return [(weight, within.get(id(weight), -1)) for weight in trained(model)]


PRESETS = {
    "t_vaccine-testbed": Preset(
        title="for models of about a million parameters",
        fields={"count": 1, "lr": 3e-3, "batch_size": 32, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "t_vaccine-paper": Preset(
        title="Llama-2-7B, blocks drawn at every step",
        fields={"hold": 1},
        steps=(250, 10000),
        source="arXiv:2410.09760",
    ),
    "t_vaccine-code": Preset(
        title="as its repository runs it: pushes on attention, blocks held",
        fields={"site": "attention"},
        steps=(250, 10000),
        source="arXiv:2410.09760, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=TVaccine,
    source="arXiv:2410.09760",
    summary="Vaccine on the few blocks that harmful answers pull at most",
    family="alignment",
    departures="blocks held for 20 steps as in the code; memory of frozen blocks is not saved. "
    "Data: hazard with refusals. 2 passes a step, one on a few rows every 200. Claims "
    "resistance. Known breakers: rates from 8e-5 up (arXiv:2505.12186); utility lost",
    presets=PRESETS,
)
