"""A game against an adversary that writes its attack in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Card, Preset
from titer.hypernet.adversary import (
    Adversary,
    Conditioning,
    Reading,
    attacker,
    effective_rank,
    patch_norm,
)
from titer.hypernet.apply import applied
from titer.hypernet.edits import Family, edit_of
from titer.hypernet.objectives import (
    Preference,
    Safe,
    logits,
    margins,
    preference,
    preferring,
    rivals,
)
from titer.hypernet.sparring import Sparring
from titer.nn.trainable import Parameters, trainable
from titer.train.batches import Bundle, bundles, cycle
from titer.train.loop import Recipe, fit
from titer.train.objectives import cross_entropy, kl_to

__all__ = ["CARD", "PRESETS", "Antidote", "Game"]

_LOOK = 10
"""Patches are measured every so many steps: their singular values cost time and change slowly."""


@dataclass(frozen=True, kw_only=True)
class Antidote:
    """Train a hypernetwork to write attacks and the model to resist them, by turns.

    The adversary wants the harmful answer preferred to the safe one under its patch; the defender
    wants the contrary under the patch, and on the *clean* model low cross-entropy on retain text
    and little divergence from the start (``coupled`` puts these under the patch too). Each step of
    the defender comes after ``adversary_steps`` of the adversary, taken every ``period`` steps, and
    ``head_start`` more before the first. ``safe`` says what the safe answer is, see
    :func:`titer.hypernet.objectives.rivals`. ``coherent`` weighs what a patch may not spoil. A step
    of the run is a step of the defender; tokens and operations are those of both.

    Source: Sanyal et al. 2025, arXiv:2509.08000. The defaults are the paper's.
    Departs: how often the players alternate is not known, so they do at every step; patches start
    at zero; inputs are RMS-normalised; the network reads prompts alone, never an answer; a budget,
    which the testbed's preset sets, is kept by projection. The published code was not followed: its
    adversary gets no gradient, and its defender prefers the harmful answer.
    """

    lr: float = 3e-5
    parameters: Parameters = "lora"
    rank: int = 16
    alpha: float = 32.0
    batch_size: int = 8
    resist_weight: float = 1.0
    capability_weight: float = 0.8
    drift_weight: float = 0.3
    preference: Preference = "log-sigmoid"
    beta: float = 1.0
    safe: Safe = "refusal"
    edit: Family = "weights"
    edit_rank: int = 8
    budget: float | None = None
    modules: tuple[str, ...] = ()
    reads: Reading = "activations"
    conditioning: Conditioning = "batch"
    width: int = 1024
    blocks: int = 2
    adversary_lr: float = 2e-4
    adversary_steps: int = 1
    period: int = 1
    head_start: int = 0
    coherent: float = 0.0
    coupled: bool = False
    through_hypernet: bool = False

    def __post_init__(self) -> None:
        rates = (self.lr, self.adversary_lr, self.beta)
        if not all(0 < rate < math.inf for rate in rates):
            raise BadInput(
                f"antidote: lr={self.lr}, adversary_lr={self.adversary_lr}, beta={self.beta}; "
                "all three must be positive."
            )
        if min(self.batch_size, self.rank, self.width, self.period, self.adversary_steps) < 1:
            raise BadInput(
                "antidote: batch_size, rank, width, period and adversary_steps are at least 1."
            )
        if min(self.blocks, self.head_start, self.coherent) < 0:
            raise BadInput("antidote: blocks, head_start and coherent are at least 0.")
        edit_of(self.edit, rank=self.edit_rank, budget=self.budget)

    def __call__(self, lm: LM, run: Run) -> LM:
        return self.play(lm, run)[0]

    def play(self, lm: LM, run: Run) -> tuple[LM, list[dict[str, float]]]:
        """The defended model, and the course of the game: see :class:`Game`."""
        out = lm.clone()
        forward = 2.0 * lm.parameters_in_matmuls()
        seed = run.rng("adapter").getrandbits(62)
        with trainable(out, self.parameters, rank=self.rank, alpha=self.alpha, seed=seed) as ready:
            game = Game(self, lm.model, self._adversary(lm, run), ready.weights)

            def flops(bundle: Bundle) -> float:
                return game.flops(bundle, forward, ready.flops_per_token)

            fit(
                ready.lm,
                game,
                self._stream(lm, run),
                run,
                parameters=ready.weights,
                recipe=Recipe(lr=self.lr, flops_besides=flops),
                steps=run.steps_left(),
            )
        return out, game.history

    def _adversary(self, lm: LM, run: Run) -> Adversary:
        size, rng = self.batch_size, run.rng("lengths")
        return attacker(
            lm,
            edit_of(self.edit, rank=self.edit_rank, budget=self.budget, modules=self.modules),
            next(cycle(lm, run.data.retain, batch_size=size, rng=rng, role="retain")),
            reads=self.reads,
            conditioning=self.conditioning,
            width=self.width,
            blocks=self.blocks,
            through=self.through_hypernet,
            seed=run.rng("hypernetwork").getrandbits(62),
        )

    def _stream(self, lm: LM, run: Run) -> Iterator[Bundle]:
        """A retain batch, and pairs: number 0 the defender's, the rest the adversary's turns."""
        size, harmful = self.batch_size, run.data.harmful
        # The same chance twice, so that the two sides of a pair stay together.
        pairs = bundles(
            **{
                side: cycle(lm, rows, batch_size=size, rng=run.rng("order pairs"), role="harmful")
                for side, rows in (("wanted", harmful), ("unwanted", rivals(harmful, self.safe)))
            }
        )
        rng = run.rng("order retain")
        benign = cycle(lm, run.data.retain, batch_size=size, rng=rng, role="retain")
        for step in count():
            turns = self.adversary_steps if step % self.period == 0 else 0
            turns += self.head_start if step == 0 else 0
            parts = {"benign": next(benign)}
            for number in range(1 + turns):
                pair = next(pairs)
                parts |= {f"{side} {number}": pair[side] for side in pair.parts}
            yield Bundle(parts)


@dataclass
class Game:
    """A step of the game as the training loop takes it: the adversary's turns, then the defender's
    gradient.

    ``history`` has a row every few steps: ``step``, the defender's ``loss`` and its parts
    ``resist``, ``capability`` and ``drift``, the ``adversary``'s loss, its ``success`` (share of
    prompts for which its patch makes the harmful answer likelier), ``norm`` and ``rank`` of the
    patch.
    """

    rules: Antidote
    start: Any
    adversary: Adversary
    weights: list[nn.Parameter]
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    def __post_init__(self) -> None:
        rules = self.rules
        wants = preferring(rules.preference, rules.beta, reference=self.start)
        self.sparring = Sparring(
            self.adversary, wants, lr=rules.adversary_lr, coherent=rules.coherent
        )
        self._steps, self._last = 0, math.nan

    def __call__(self, model: Any, bundle: Bundle) -> dict[str, float]:
        defended, *attacked = _turns(bundle)
        for turn in attacked:
            self._last = self.sparring(model, turn)
        logs = {**self.defend(model, defended), "adversary": self._last}
        if self._steps % _LOOK == 0:
            self.history.append({"step": float(self._steps), **logs})
        self._steps += 1
        return logs

    def defend(self, model: Any, bundle: Bundle) -> dict[str, float]:
        """Gradients for the defender; none is left on the adversary."""
        rules, benign = self.rules, bundle["benign"]
        with torch.set_grad_enabled(self.adversary.through):
            patch = self.adversary.patch(model, bundle["wanted"])
        with applied(model, self.adversary.edit, patch):
            harm = margins(model, bundle)
        resist = preference(-harm, -self._reference(bundle), rules.preference, rules.beta)
        with self.adversary.attacking(model, benign) if rules.coupled else nullcontext():
            out = logits(model, benign)
        with torch.no_grad():
            before = logits(self.start, benign)
        capability = cross_entropy(out, benign.labels)
        # KL(defended ‖ start), the paper's direction.
        drift = kl_to(out, before, benign.labels)
        loss = rules.resist_weight * resist + rules.capability_weight * capability
        loss = loss + rules.drift_weight * drift
        loss.backward(inputs=self.weights)
        values = {"loss": loss, "resist": resist, "capability": capability, "drift": drift}
        logs = {name: float(value.detach()) for name, value in values.items()}
        logs["success"] = float((harm.detach() > 0).float().mean())
        if self._steps % _LOOK == 0:
            logs |= {"norm": patch_norm(patch), "rank": effective_rank(patch)}
        return logs

    def _reference(self, bundle: Bundle) -> Tensor:
        if self.rules.preference == "log-sigmoid":
            return torch.zeros(())
        with torch.no_grad():
            return margins(self.start, bundle)

    def flops(self, bundle: Bundle, forward: float, trained: float) -> float:
        """Operations of a step: ``forward`` a token for a frozen pass, ``trained`` for the
        defender's own. The adversary's passes go back to the patch but to no weight."""
        defended, *attacked = _turns(bundle)
        compared = self.rules.preference != "log-sigmoid"
        benign = bundle["benign"].tokens

        def pair(turn: Bundle) -> int:
            return turn["wanted"].tokens + turn["unwanted"].tokens

        total = trained * defended.tokens + forward * (benign + compared * pair(defended))
        total += self.adversary.flops(defended["wanted"], forward, trained=False)
        for turn in attacked:
            total += forward * (2 + compared) * pair(turn)
            total += forward * 3 * benign * bool(self.rules.coherent)
            total += self.adversary.flops(turn["wanted"], forward)
        return total


def _turns(bundle: Bundle) -> list[Bundle]:
    """The defender's pairs with the benign batch, then those of each turn of the adversary."""
    benign, sides = bundle["benign"], ("wanted", "unwanted")
    turns = range((len(bundle.parts) - 1) // 2)
    return [Bundle({"benign": benign} | {s: bundle[f"{s} {k}"] for s in sides}) for k in turns]


PRESETS = {
    "antidote-paper": Preset(
        title="the paper's settings",
        fields={"lr": 3e-5, "adversary_lr": 2e-4, "rank": 16, "alpha": 32.0, "width": 1024},
        steps=(2000, 2000),
        source="arXiv:2509.08000",
    ),
    "antidote-testbed": Preset(
        title="for models of about a million parameters",
        fields={
            "lr": 1e-3,
            "parameters": "full",
            "budget": 1.0,
            "width": 64,
            "edit_rank": 4,
            "adversary_lr": 1e-2,
            "batch_size": 16,
        },
        steps=(200, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=Antidote,
    source="arXiv:2509.08000",
    summary="a game against a hypernetwork that writes low-rank attacks",
    family="adversarial",
    departures="alternates at every step; zero start, normalised inputs, prompts only, budgets",
    presets=PRESETS,
)
