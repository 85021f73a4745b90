"""A game against an adversary that writes its attack in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from titer.hypernet.adversary import Adversary, Conditioning, Reading, attacker
from titer.hypernet.calibration import calibrated, measured
from titer.hypernet.families import edit_of, families_of
from titer.hypernet.game import Game, Side, stream
from titer.hypernet.objectives import Preference, Safe
from titer.hypernet.sites import share_of
from titer.hypernet.watch import doubts
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.reach import note
from titer.nn.trainable import Parameters, trainable
from titer.train.batches import Bundle, cycle
from titer.train.loop import Recipe, fit
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "Antidote"]


@dataclass(frozen=True, kw_only=True)
class Antidote:
    """Train a hypernetwork to write attacks and the model to resist them, by turns.

    The adversary wants the harmful answer preferred to the safe one under its patch; the defender
    wants the contrary under the patch, and on the *clean* model low cross-entropy on retain text
    and little divergence from the start (``coupled`` puts these under the patch too). Each step of
    the defender comes after ``adversary_steps`` of the adversary, taken every ``period`` steps, and
    ``head_start`` more before the first. ``safe`` says what the safe answer is, see
    :func:`titer.hypernet.objectives.rivals`. ``coherent`` weighs what a patch may not spoil.
    ``edit`` names the family of edits, or several with ``+`` between them, each of which gets an
    adversary of its own; they take turns. With ``together`` both players' gradients come from one
    pass over one batch, at the same weights. Every ``fresh_every`` steps (0: never) a new adversary
    is given ``fresh_steps`` turns of its own, to see whether the defence has learnt its partner.
    ``budget`` calibrated is that which holds nine layers of ten of a real LoRA fine-tune, see
    :func:`titer.hypernet.calibration.measured`, for low-rank weights, and 1 for other families; it
    is in the first row of the course. ``schedule`` is of the defender's rate. A step of the run is
    a step of the defender; tokens and operations are those of all.

    Source: Sanyal et al. 2025, arXiv:2509.08000. The defaults are the paper's.
    Departs: how often the players alternate is not known, so they do at every step; patches start
    at zero; inputs are RMS-normalised; the network reads prompts alone, never an answer; a budget,
    which the testbed's preset sets, is kept by projection. The published code was not followed: its
    adversary gets no gradient, and its defender prefers the harmful answer.
    """

    lr: float = 3e-5
    schedule: Schedule = "constant"
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
    edit: str = "weights"
    edit_rank: int = 8
    budget: float | Literal["calibrated"] | None = None
    modules: tuple[str, ...] = ()
    reads: Reading = "activations"
    conditioning: Conditioning = "batch"
    width: int | None = 1024
    blocks: int = 2
    adversary_lr: float = 2e-4
    adversary_steps: int = 1
    period: int = 1
    head_start: int = 0
    coherent: float = 0.0
    coupled: bool = False
    through_hypernet: bool = False
    together: bool = False
    fresh_every: int = 0
    fresh_steps: int = 20

    resumes = False

    def __post_init__(self) -> None:
        rates = (self.lr, self.adversary_lr, self.beta)
        if not all(0 < rate < math.inf for rate in rates):
            raise BadInput(
                f"antidote: lr={self.lr}, adversary_lr={self.adversary_lr}, beta={self.beta}; "
                "all three must be positive."
            )
        counts = (self.batch_size, self.rank, self.period, self.adversary_steps)
        if min(*counts, 1 if self.width is None else self.width) < 1:
            raise BadInput(
                "antidote: batch_size, rank, width, period and adversary_steps are at least 1."
            )
        if min(self.blocks, self.head_start, self.coherent) < 0:
            raise BadInput("antidote: blocks, head_start and coherent are at least 0.")
        if min(self.fresh_every, self.fresh_steps) < 0:
            raise BadInput("antidote: fresh_every and fresh_steps are at least 0.")
        families = families_of(self.edit)
        if isinstance(self.budget, str) and "weights" not in families:
            raise BadInput(
                "antidote: a calibrated budget is one of low-rank weights; give edit=weights, or "
                "the budget as a number."
            )
        for family in families:
            edit_of(family, rank=self.edit_rank, budget=self._bound(family, 1.0))

    def __call__(self, lm: LM, run: Run) -> LM:
        return self.play(lm, run)[0]

    def play(
        self, lm: LM, run: Run, watch: Callable[[LM, Game, Side], None] | None = None
    ) -> tuple[LM, Game]:
        """The defended model, and the game as it ended: see :class:`Game`.

        ``watch`` is told of the model in training after every move; it must leave it as it is.
        """
        if isinstance(self.budget, str):
            bound = calibrated(measured(lm, run, batch_size=self.batch_size))
            run.course.append({"step": 0.0, "budget": bound})
        else:
            bound = self.budget
        out = lm.clone()
        forward = 2.0 * lm.parameters_in_matmuls()
        seed = run.rng("adapter").getrandbits(62)
        with trainable(out, self.parameters, rank=self.rank, alpha=self.alpha, seed=seed) as ready:

            def tell(game: Game, side: Side) -> None:
                if watch:
                    watch(ready.lm, game, side)

            families, renew = families_of(self.edit), self._renewer(lm, run, bound)
            game = Game(
                rules=self,
                start=lm.model,
                adversaries=[
                    renew(place, run.rng(f"hypernetwork{place or ''}").getrandbits(62))
                    for place in range(len(families))
                ],
                weights=ready.weights,
                renew=renew,
                seed=run.seed,
                watch=tell,
                course=run.course,
            )
            for one in game.adversaries if not self.modules else ():
                share = share_of(lm.model, one.network.sites)
                note(run, share, "weights that its adversary is to edit")

            def flops(bundle: Bundle) -> float:
                return game.flops(bundle, forward, ready.flops_per_token)

            fit(
                ready.lm,
                game,
                stream(self, lm, run),
                run,
                parameters=ready.weights,
                recipe=Recipe(lr=self.lr, schedule=self.schedule, flops_besides=flops),
                steps=run.steps_left(),
            )
            tell(game, "defender")
        reads = self.conditioning != "universal"
        run.flags.extend(doubts(run.course, rank=self.edit_rank, reads=reads))
        return out, game

    def _bound(self, family: str, weights: float | None) -> float | None:
        """The budget of a family, that of low-rank weights being ``weights`` if it is measured."""
        if not isinstance(self.budget, str):
            return self.budget
        return weights if family == "weights" else 1.0

    def _renewer(self, lm: LM, run: Run, bound: float | None) -> Callable[[int, int], Adversary]:
        """Makes the adversary of a place from a seed, always on the same text."""
        size, rng = self.batch_size, run.rng("lengths")
        text = next(cycle(lm, run.data.retain, batch_size=size, rng=rng, role="retain"))
        families = families_of(self.edit)

        def renew(place: int, seed: int) -> Adversary:
            return attacker(
                lm,
                edit_of(
                    families[place],
                    rank=self.edit_rank,
                    budget=self._bound(families[place], bound),
                    modules=self.modules,
                ),
                text,
                reads=self.reads,
                conditioning=self.conditioning,
                width=self.width,
                blocks=self.blocks,
                through=self.through_hypernet,
                seed=seed,
            )

        return renew


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
            "width": None,
            "edit_rank": 4,
            "adversary_lr": 1e-2,
            "batch_size": 16,
            "fresh_every": 50,
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
    version=3,
    departures="alternates at every step; zero start, normalised inputs, prompts only, budgets",
    presets=PRESETS,
)
