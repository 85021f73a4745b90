"""Tampering attack resistance: first-order meta-learning against sampled attackers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor

from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch, Bundle, cycle
from titer.train.grads import deposit, gradient, restored, still, trained
from titer.train.harden import Phase, Source, Training, halves, harden, logits, refusing
from titer.train.objectives import cross_entropy, row_losses, single
from titer.train.optimisers import Optimiser, build_optimiser
from titer.train.policy import dpo, entropy
from titer.train.unlearn import unlearner

__all__ = ["CARD", "PRESETS", "TAR", "Attacker", "shares"]

Weighting = Literal["uniform", "exponential", "code"]


@dataclass(frozen=True)
class Attacker:
    """One simulated attacker: his rate, and the step from which he trains on the hazard; before it
    on retain text."""

    lr: float
    switch: int


def shares(inner: int, every: int, weighting: Weighting) -> dict[int, float]:
    """By the inner step after which it is taken, what the tamper-resistance loss weighs.

    ``uniform`` and ``exponential`` sum to 1; ``code`` is ``exp(0.0625 (k − K + 1))`` as it is,
    which at 64 steps and every fourth sums to 4.44.
    """
    taken = [k for k in range(inner) if (k + 1) % every == 0]
    raw = {k: 1.0 if weighting == "uniform" else math.exp(0.0625 * (k - inner + 1)) for k in taken}
    total = 1.0 if weighting == "code" else sum(raw.values())
    return {k: value / total for k, value in raw.items()}


@dataclass(frozen=True, kw_only=True)
class TAR:
    """Descend ``λ_TR Σ_k w_k L_TR(θ_k; held back) + λ_r (CE + ‖h − h_start‖)``, ``θ_k`` the weights
    of a simulated attacker after k steps, whose dependence on θ is taken for the identity.

    For the share ``first`` of the steps ``base`` scrambles the hazard (random mapping). Then each
    step draws an attacker: a rate of ``rates``, a fresh AdamW, and with the chance ``late`` a start
    on retain text that turns to the hazard after a share ``Beta(6, 3)`` of his ``inner`` steps. He
    trains on one half of the hazard's entities; ``L_TR`` is measured after every ``every`` of his
    steps on one batch of the other half: minus the entropy at all tokens (``entropy``), or DPO with
    refusals preferred (``dpo``). The reference of what is kept is the model handed in.

    Source: Tamirisa et al. 2024, arXiv:2408.00761, and its repository's run for biology.
    Departs: the paper's weights (``uniform``), where the repository's are exponential and sum to
    4.44 (``code``); the norm of states is not squared, as in the repository, where the paper
    squares it (``squared``); the two attackers of the repository that differ in their text are one,
    as the hazard has one text; attackers meet no loss floor, as in its script.
    """

    base: Any = "random_mapping"
    first: float = 0.5
    inner: int = 64
    every: int = 4
    rates: tuple[float, ...] = (2e-6, 2e-5, 4e-5)
    late: float = 1 / 3
    attack_batch: int = 4
    tamper: Literal["entropy", "dpo"] = "entropy"
    beta: float = 0.1
    weighting: Weighting = "uniform"
    tamper_weight: float = 4.0
    retain_weight: float = 1.0
    squared: bool = False
    optimiser: Optimiser = "schedule-free"
    lr: float = 2e-5
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", unlearner("tar", self.base))
        if not 0 <= self.first < 1 or not 0 <= self.late <= 1:
            raise BadInput(f"tar: first={self.first} and late={self.late} are shares.")
        if self.inner < 0 or self.every < 1 or self.attack_batch < 1:
            raise BadInput("tar: inner is at least 0, every and attack_batch at least 1.")
        if not self.rates or not all(0 <= rate < math.inf for rate in self.rates):
            raise BadInput(f"tar: rates={self.rates}; give one or more that are not negative.")
        known = (self.tamper_weight, self.retain_weight, self.beta)
        if not all(0 <= value < math.inf for value in known):
            raise BadInput("tar: tamper_weight, retain_weight and beta must not be negative.")
        Training.of(self)

    def attacker(self, run: Run, step: int) -> Attacker:
        """Whom the step meets: a function of the run's seed alone."""
        rng = run.rng(f"attacker {step}")
        rate, late = rng.choice(self.rates), rng.random() < self.late
        return Attacker(rate, round(rng.betavariate(6, 3) * self.inner) if late else 0)

    def __call__(self, lm: LM, run: Run) -> LM:
        learned, held = halves(run.data.harmful)
        steps, start = run.steps_left(self.first), lm
        if steps:
            budget = replace(run.budget, steps=run.spent.steps + steps)
            start = self.base(lm, replace(run, budget=budget))
            if run.exhausted() or run.steps_left() == 0:
                return start
            run.flags.append(TWO_PHASES)
        sources = {"retain": Source(examples=run.data.retain)}
        if self.inner:
            sources["held"] = Source(examples=held, order="held")
        if self.inner and self.tamper == "dpo":
            sources["declined"] = Source(examples=refusing(held), order="held")
        weights = shares(self.inner, self.every, self.weighting)
        more = {name: len(weights) - 1.0 for name in sources if name != "retain"}
        forwards = {name: 1.0 for name in more if self.tamper == "dpo"}
        return harden(
            start,
            run,
            Training.of(self),
            sources,
            lambda _ready: [
                Phase(
                    grad=lambda model, bundle: self._gradient(lm, run, model, bundle, weights),
                    also=self._attacks(start, run, learned),
                    passes=more,
                    forwards={**forwards, "retain": 1.0},
                )
            ],
            optimiser=self.optimiser,
        )

    def _attacks(self, lm: LM, run: Run, learned: Any) -> dict[str, Iterator[Batch | None]]:
        """The attackers' batches, by inner step."""
        hazard, kept = (
            cycle(
                lm,
                examples,
                batch_size=self.attack_batch,
                rng=run.rng(f"attack on {role}"),
                role=role,
                packed=True,
            )
            for role, examples in (("harmful", learned), ("retain", run.data.retain))
        )
        begun = run.spent.steps

        def batches(k: int) -> Iterator[Batch]:
            for step in count(begun):
                yield next(kept if k < self.attacker(run, step).switch else hazard)

        return {f"attack {k}": batches(k) for k in range(self.inner)}

    def _gradient(
        self, frozen: LM, run: Run, model: Any, bundle: Bundle, weights: dict[int, float]
    ) -> dict[str, float]:
        with still(model):
            found = self._tampered(frozen, run, model, bundle, weights)
        kept = self._retain(frozen, model, bundle["retain"])
        kept.backward()
        if found is not None:
            deposit(trained(model), found[0], self.tamper_weight)
        value = 0.0 if found is None else self.tamper_weight * found[1]
        return {"loss": float(kept.detach()) + value}

    def _tampered(
        self, frozen: LM, run: Run, model: Any, bundle: Bundle, weights: dict[int, float]
    ) -> tuple[Tensor, float] | None:
        """``Σ w_k ∇L_TR(θ_k)`` and ``Σ w_k L_TR(θ_k)`` along one attacker's way."""
        if not self.inner:
            return None
        params, total, value = trained(model), None, 0.0
        rate = self.attacker(run, run.spent.steps).lr
        with restored(params):
            stepper = build_optimiser(
                "adamw", [{"params": params, "lr": rate, "weight_decay": 0.0}]
            )
            for k in range(self.inner):
                batch = bundle[f"attack {k}"]
                cross_entropy(logits(model, batch), batch.labels).backward()
                stepper.step()
                stepper.zero_grad()
                if k in weights:
                    loss = weights[k] * self._resists(frozen, model, bundle)
                    here = gradient(loss, params)
                    total = here if total is None else total.add_(here)
                    value += float(loss.detach())
        return None if total is None else (total, value)

    def _resists(self, frozen: LM, model: Any, bundle: Bundle) -> Tensor:
        """The tamper-resistance loss on what was held back, at the weights as they stand."""
        held = bundle["held"]
        if self.tamper == "entropy":
            spread = entropy(single(logits(model, held)))
            return -(spread * held.attention_mask).sum() / held.attention_mask.sum()

        def gained(batch: Batch) -> Tensor:
            with torch.no_grad():
                before = row_losses(logits(frozen.model, batch), batch.labels, "sum")
            return before - row_losses(logits(model, batch), batch.labels, "sum")

        return dpo(gained(bundle["declined"]), gained(held), self.beta)

    def _retain(self, frozen: LM, model: Any, batch: Batch) -> Tensor:
        """Cross-entropy, and how far hidden states are from those of the model handed in."""
        asked = {**batch.inputs(), "use_cache": False, "output_hidden_states": True}
        with torch.no_grad():
            then = frozen.model(**asked).hidden_states
        out, mask = model(**asked), batch.attention_mask
        powers = 2 if self.squared else 1
        moved = [
            (torch.linalg.vector_norm(single(a) - single(b), dim=-1).pow(powers) * mask).sum()
            / mask.sum()
            for a, b in zip(out.hidden_states, then, strict=True)
        ]
        kept = cross_entropy(out.logits, batch.labels) + torch.stack(moved).mean()
        return self.retain_weight * kept


PRESETS = {
    "tar-testbed": Preset(
        title="for models of about a million parameters, attackers of 16 steps",
        fields={
            "base": "random_mapping-testbed",
            "inner": 16,
            "rates": (1e-4, 1e-3, 3e-3),
            "lr": 5e-4,
            "optimiser": "adamw",
        },
        steps=(200, 1000),
        source="titer",
    ),
    "tar-paper": Preset(
        title="Llama-3-8B-Instruct, biology",
        fields={"rates": (2e-5, 4e-5)},
        steps=(200, 1750),
        source="arXiv:2408.00761",
    ),
    "tar-code": Preset(
        title="as its repository weighs and draws, biology",
        fields={"weighting": "code"},
        steps=(200, 1750),
        source="arXiv:2408.00761, repository",
    ),
    "tar-refusal": Preset(
        title="refusals preferred under attack, no scrambling first",
        fields={"tamper": "dpo", "first": 0.0},
        steps=(200, 750),
        source="arXiv:2408.00761",
    ),
}

CARD = Card(
    kind="defence",
    build=TAR,
    source="arXiv:2408.00761",
    summary="the hazard stays out of reach along the way of simulated attackers",
    family="meta-learning",
    departures="uniform weights that sum to 1, attackers of one text. Data: hazard of two "
    "entities or more, split in two, and retain; dpo needs refusals. 81 passes a step with the "
    "defaults. Claims resistance. Known breakers: adapters (conceded by its authors), benign "
    "fine-tuning and seeds (arXiv:2412.07097)",
    presets=PRESETS,
)
