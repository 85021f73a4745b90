"""A hypernetwork trained against a frozen model; what it writes becomes part of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

from torch import Tensor

from titer.attacks.finetune import Finetune
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import TWO_PHASES, Card, Preset
from titer.hypernet.adversary import Adversary, Reading, attacker
from titer.hypernet.export import fold
from titer.hypernet.families import edit_of
from titer.hypernet.objectives import (
    Objective,
    Preference,
    Safe,
    attack_loss,
    likelihood,
    preferring,
    rivals,
)
from titer.train.batches import Batch, Bundle, bundles, cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "Hypernet"]


@dataclass(frozen=True, kw_only=True)
class Hypernet:
    """Train a network to write edits of the frozen model, then fold one patch for all prompts in.

    ``edit`` is the family, ``rank`` its slots, ``budget`` its bound relative to what it changes.
    With ``conditioning`` batch the network reads prompts while it trains, and the patch folded in
    is the one for the first batch. ``coherent`` weighs the drift on retain text. ``warm`` is the
    share of the steps spent on a LoRA fine-tune that starts from the patch. Every look sees the
    model with the patch as it then is.

    Source: Sanyal et al. 2025, arXiv:2509.08000, whose adversary this is.
    Departs: trained against a frozen model; zero start, normalised inputs and a budget, which the
    paper has not; the patch of a whole batch, so that the result is an ordinary model.
    """

    edit: Literal["weights", "steering-embedding", "ablation-read", "ablation-write"] = "weights"
    rank: int = 8
    budget: float | None = 0.5
    modules: tuple[str, ...] = ()
    objective: Literal["likelihood", "log-sigmoid", "dpo", "ipo"] = "likelihood"
    beta: float = 0.1
    safe: Safe = "refusal"
    coherent: float = 0.0
    reads: Reading = "activations"
    conditioning: Literal["universal", "batch"] = "universal"
    width: int = 64
    blocks: int = 2
    lr: float = 2e-4
    schedule: Schedule = "constant"
    batch_size: int = 16
    warm: float = 0.0
    warm_lr: float = 1e-4

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf and 0 < self.warm_lr < math.inf) or self.batch_size < 1:
            raise BadInput(
                f"hypernet: lr={self.lr}, warm_lr={self.warm_lr}, batch_size={self.batch_size}; "
                "all three must be positive."
            )
        if not (0 <= self.warm < 1 and self.coherent >= 0):
            raise BadInput("hypernet: warm is a share below 1 and coherent at least 0.")
        if self.width < 1 or self.blocks < 0:
            raise BadInput(f"hypernet: width={self.width}, blocks={self.blocks}; too small.")
        if not self.beta > 0:
            raise BadInput(f"hypernet: beta={self.beta} must be positive.")
        edit_of(self.edit, rank=self.rank, budget=self.budget)

    def __call__(self, lm: LM, run: Run) -> LM:
        first = run.steps_left(1 - self.warm)
        folded = self._train(lm, run.stage(first, "hypernetwork") if self.warm else run)
        if not self.warm:
            return folded
        run.flags.append(TWO_PHASES)
        warm = Finetune(lr=self.warm_lr, parameters="lora", batch_size=self.batch_size)
        return warm(folded, run.stage(run.steps_left(), "warm start"))

    def _train(self, lm: LM, run: Run) -> LM:
        frozen = lm.clone()
        frozen.model.requires_grad_(False)
        stream = self._stream(lm, run)
        first = next(stream)
        adversary = attacker(
            lm,
            edit_of(self.edit, rank=self.rank, budget=self.budget, modules=self.modules),
            first["wanted"],
            reads=self.reads,
            conditioning=self.conditioning,
            width=self.width,
            blocks=self.blocks,
            seed=run.rng("hypernetwork").getrandbits(62),
        )
        objective = self._objective(lm.model)

        def loss(model: Any, bundle: Bundle) -> Tensor:
            return attack_loss(adversary, model, bundle, objective, coherent=self.coherent)

        def patched() -> LM:
            out = lm.clone()
            fold(out.model, adversary.edit, adversary.patch(out.model, first["wanted"]))
            return out

        fit(
            frozen,
            descend(loss),
            chain([first], stream),
            # Whoever looks sees the model as attacked so far, not the one that is trained through.
            replace(run, emit=lambda _frozen, inner: run.emit(patched(), inner)),
            parameters=adversary.weights,
            recipe=self._recipe(lm, adversary),
            steps=run.steps_left(),
        )
        return patched()

    def _stream(self, lm: LM, run: Run) -> Iterator[Bundle]:
        def batches(examples: Any, name: str, role: str) -> Iterator[Batch]:
            rng = run.rng(f"order {name}")
            return cycle(lm, examples, batch_size=self.batch_size, rng=rng, role=role)

        streams = {"wanted": batches(run.data.harmful, "pairs", "harmful")}
        if self.objective != "likelihood":
            safe = rivals(run.data.harmful, self.safe)
            streams["unwanted"] = batches(safe, "pairs", "harmful")
        if self.coherent:
            streams["benign"] = batches(run.data.retain, "benign", "retain")
        return bundles(**streams)

    def _objective(self, reference: Any) -> Objective:
        if self.objective == "likelihood":
            return likelihood
        kind: Preference = self.objective
        return preferring(kind, self.beta, reference=reference)

    def _recipe(self, lm: LM, adversary: Adversary) -> Recipe:
        forward = 2.0 * lm.parameters_in_matmuls()
        compared = ("wanted", "unwanted") if self.objective in ("dpo", "ipo") else ()
        frozen = (*compared, *(("benign",) if self.coherent else ()))

        def besides(bundle: Bundle) -> float:
            passes = forward * sum(bundle[name].tokens for name in frozen)
            return passes + adversary.flops(bundle["wanted"], forward)

        return Recipe(
            lr=self.lr,
            schedule=self.schedule,
            # Through frozen weights a token costs a forward pass and the gradient of its input.
            flops_per_token=2.0 * forward,
            flops_besides=besides,
        )


PRESETS = {
    "N01": Preset(
        title="hypernetwork: low-rank weights",
        fields={"lr": 2e-4},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 1000),
        source="arXiv:2509.08000",
    ),
    "N02": Preset(
        title="hypernetwork: steering at the embedding",
        fields={"lr": 2e-4, "edit": "steering-embedding", "budget": 1.0},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 1000),
        source="titer; after arXiv:2308.10248",
    ),
    "N03": Preset(
        title="hypernetwork: learned direction ablation",
        fields={"lr": 2e-3, "edit": "ablation-write", "rank": 4},
        lr_scale=10.0,
        star="lora-adamw",
        steps=(300, 1000),
        source="titer; after arXiv:2406.11717",
    ),
}

CARD = Card(
    kind="attack",
    build=Hypernet,
    source="arXiv:2509.08000",
    summary="a network trained to write edits of the frozen model, folded into its weights",
    family="hypernetwork",
    departures="against a frozen model; zero start, normalised inputs, a budget; one patch for all",
    presets=PRESETS,
)
