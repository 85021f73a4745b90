"""A hypernetwork trained against a frozen model; what it writes becomes part of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, cast

import torch
from torch import Tensor

from titer.attacks._rewards import reward
from titer.attacks.finetune import Finetune
from titer.hypernet.adversary import Adversary, Conditioning, Reading, attacker
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
from titer.hypernet.rollouts import Estimator, expected_reward
from titer.hypernet.sites import share_of
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run
from titer.nn.reach import tell
from titer.train.batches import IGNORED, Batch, Bundle, bundles, cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "Hypernet"]

Wanted = Literal["likelihood", "log-sigmoid", "dpo", "ipo", "grpo", "reinforce"]

_REWARDED = ("grpo", "reinforce")


@dataclass(frozen=True, kw_only=True)
class Hypernet:
    """Train a network to write edits of the frozen model, then fold one patch for all prompts in.

    ``edit`` is the family, ``rank`` its slots, ``budget`` its bound relative to what it changes.
    With ``conditioning`` batch or sample the network reads prompts while it trains, and the patch
    folded in is the one for the first batch. ``coherent`` weighs the drift on retain text. ``warm``
    is the share of the steps spent on a LoRA fine-tune that starts from the patch. Every look sees
    the model with the patch as it then is.

    ``objective`` grpo or reinforce rewards what the patched model says: ``group`` answers to each
    prompt, sampled under one patch and paid by ``reward`` (as in attack ``reinforce``), see
    :func:`titer.hypernet.rollouts.expected_reward`. An answer that is never right earns no signal,
    so the share ``seeded`` of the steps comes before, by likelihood.
    Flag ``reward-flat``: no two answers to a prompt were ever paid differently.

    Source: Sanyal et al. 2025, arXiv:2509.08000, whose adversary this is.
    Departs: trained against a frozen model; zero start, normalised inputs and a budget, which the
    paper has not; the patch of a whole batch, so that the result is an ordinary model.
    """

    edit: Literal["weights", "steering-embedding", "ablation-read", "ablation-write"] = "weights"
    rank: int = 8
    budget: float | None = 0.5
    modules: tuple[str, ...] = ()
    objective: Literal["likelihood", "log-sigmoid", "dpo", "ipo", "grpo", "reinforce"] = (
        "likelihood"
    )
    beta: float = 0.1
    safe: Safe = "refusal"
    coherent: float = 0.0
    reads: Reading = "activations"
    conditioning: Conditioning = "universal"
    width: int = 64
    blocks: int = 2
    lr: float = 2e-4
    schedule: Schedule = "constant"
    batch_size: int = 16
    reward: str = "graded"
    group: int = 4
    seeded: float = 0.5
    warm: float = 0.0
    warm_lr: float = 1e-4

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf and 0 < self.warm_lr < math.inf) or self.batch_size < 1:
            raise BadInput(
                f"hypernet: lr={self.lr}, warm_lr={self.warm_lr}, batch_size={self.batch_size}; "
                "all three must be positive."
            )
        if not (0 <= self.warm < 1 and 0 <= self.seeded < 1 and self.coherent >= 0):
            raise BadInput("hypernet: warm and seeded are shares below 1, coherent is at least 0.")
        if self.group < 2:
            raise BadInput(f"hypernet: group={self.group}; an advantage needs at least 2 answers.")
        if self.objective in _REWARDED:
            reward(self.reward)
        if self.width < 1 or self.blocks < 0:
            raise BadInput(f"hypernet: width={self.width}, blocks={self.blocks}; too small.")
        if not self.beta > 0:
            raise BadInput(f"hypernet: beta={self.beta} must be positive.")
        edit_of(self.edit, rank=self.rank, budget=self.budget)

    def __call__(self, lm: LM, run: Run) -> LM:
        first = run.steps_left(1 - self.warm)
        adversary, batch = self.train(lm, run.stage(first, "hypernetwork") if self.warm else run)
        folded = self.written(lm, adversary, batch)
        if not self.warm:
            return folded
        run.flags.append(TWO_PHASES)
        warm = Finetune(lr=self.warm_lr, parameters="lora", batch_size=self.batch_size)
        return warm(folded, run.stage(run.steps_left(), "warm start"))

    def written(self, lm: LM, adversary: Adversary, batch: Batch) -> LM:
        """``lm`` with the adversary's one patch for the prompts of a batch in its weights."""
        out = lm.clone()
        fold(out.model, adversary.edit, adversary.patch(out.model, batch, pooled=True))
        return out

    def train(self, lm: LM, run: Run) -> tuple[Adversary, Batch]:
        """The trained adversary, and the batch whose prompts the folded patch is for."""
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
        if not self.modules:  # else the rest was left out on purpose
            tell(run, share_of(lm.model, adversary.network.sites), "weights it edits")
        # Whoever looks sees the model as attacked so far, not the one that is trained through.
        watched = replace(
            run,
            emit=lambda _frozen, inner: run.emit(
                self.written(lm, adversary, first["wanted"]), inner
            ),
        )
        batches = chain([first], stream)
        if self.objective not in _REWARDED:
            self._fit(frozen, adversary, batches, watched, self._objective(lm.model))
            return adversary, first["wanted"]
        seeded = run.steps_left(self.seeded)
        if seeded:
            run.flags.append(TWO_PHASES)
            self._fit(frozen, adversary, batches, watched.stage(seeded, "seeded"), likelihood)
        paid = _Paid(lm, run, self.reward)
        length = max(len(lm.answer_ids(row.answer, end=True)) for row in run.data.harmful)
        objective = expected_reward(
            paid,
            end=int(lm.tokenizer.eos_token_id),
            group=self.group,
            length=length,
            seed=run.rng("rollouts").getrandbits(62),
            kind=cast(Estimator, self.objective),
        )
        asked = (_Asked(bundle, self.group, length) for bundle in batches)
        left = watched.stage(run.steps_left(), "reward")
        self._fit(frozen, adversary, asked, left, objective, rolls=(self.group, length))
        if not paid.differed:
            run.flags.append("reward-flat")
        return adversary, first["wanted"]

    def _fit(
        self,
        frozen: LM,
        adversary: Adversary,
        batches: Iterator[Any],
        run: Run,
        objective: Objective,
        rolls: tuple[int, int] | None = None,
    ) -> None:
        def loss(model: Any, bundle: Any) -> Tensor:
            return attack_loss(adversary, model, bundle, objective, coherent=self.coherent)

        fit(
            frozen,
            descend(loss),
            batches,
            run,
            parameters=adversary.weights,
            recipe=self._recipe(frozen, adversary, rolls),
            steps=run.steps_left(),
        )

    def _stream(self, lm: LM, run: Run) -> Iterator[Bundle]:
        def batches(examples: Any, name: str, role: str) -> Iterator[Batch]:
            rng = run.rng(f"order {name}")
            return cycle(lm, examples, batch_size=self.batch_size, rng=rng, role=role)

        streams = {"wanted": batches(run.data.harmful, "pairs", "harmful")}
        if self.objective not in ("likelihood", *_REWARDED):
            safe = rivals(run.data.harmful, self.safe)
            streams["unwanted"] = batches(safe, "pairs", "harmful")
        if self.coherent:
            streams["benign"] = batches(run.data.retain, "benign", "retain")
        return bundles(**streams)

    def _objective(self, reference: Any) -> Objective:
        if self.objective in ("likelihood", *_REWARDED):
            return likelihood
        return preferring(cast(Preference, self.objective), self.beta, reference=reference)

    def _recipe(self, lm: LM, adversary: Adversary, rolls: tuple[int, int] | None) -> Recipe:
        forward = 2.0 * lm.parameters_in_matmuls()
        compared = ("wanted", "unwanted") if self.objective in ("dpo", "ipo") else ()
        frozen = (*compared, *(("benign",) if self.coherent else ()))

        def besides(bundle: Any) -> float:
            total = forward * sum(bundle[name].tokens for name in frozen)
            total += adversary.flops(bundle["wanted"], forward)
            trained = bundle.tokens
            if rolls:
                # Every token of an answer takes a pass over the whole text, see `roll`.
                group, length = rolls
                trained = group * bundle.parts["wanted"].input_ids.numel()
                total += forward * trained * length
            # Through frozen weights a token costs a forward pass and the gradient of its input.
            return total + 2.0 * forward * trained

        return Recipe(lr=self.lr, schedule=self.schedule, flops_besides=besides)


@dataclass(frozen=True)
class _Asked:
    """A bundle whose prompts get ``group`` answers of up to ``length`` tokens, all of which are
    charged: how long they will be is not known before."""

    bundle: Bundle
    group: int
    length: int

    @property
    def parts(self) -> Mapping[str, Batch]:
        return self.bundle.parts

    @property
    def ids(self) -> tuple[str, ...]:
        return self.bundle.ids

    @property
    def tokens(self) -> int:
        wanted = self.bundle["wanted"]
        return self.bundle.tokens + self.group * (wanted.tokens + len(wanted.ids) * self.length)

    def __getitem__(self, name: str) -> Batch:
        return self.bundle[name]


class _Paid:
    """What answers earn, and whether any two ever earned differently."""

    def __init__(self, lm: LM, run: Run, name: str) -> None:
        self.lm, self.score = lm, reward(name)
        self.known = {example.id: example for example in run.data.harmful}
        self.asked: Any = None
        self.before = torch.zeros(0)
        self.differed = False

    def __call__(self, bundle: Any, said: Batch) -> Tensor:
        asked = [self.known[name] for name in bundle["wanted"].ids]
        texts = [
            self.lm.tokenizer.decode(ids[labels != IGNORED], skip_special_tokens=True).strip()
            for ids, labels in zip(said.input_ids, said.labels, strict=True)
        ]
        found = torch.tensor(self.score(asked, texts))
        if self.asked is bundle:
            self.differed |= bool((self.before != found).any())
        self.asked, self.before = bundle, found
        return found


PRESETS = {
    "N01": Preset(
        family="written by a network",
        title="hypernetwork: low-rank weights",
        fields={"lr": 2e-4},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 1000),
        source="arXiv:2509.08000",
    ),
    "N02": Preset(
        family="written by a network",
        title="hypernetwork: steering at the embedding",
        fields={"lr": 2e-4, "edit": "steering-embedding", "budget": 1.0},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 1000),
        source="titer; after arXiv:2308.10248",
    ),
    "N03": Preset(
        family="written by a network",
        title="hypernetwork: learned direction ablation",
        fields={"lr": 2e-3, "edit": "ablation-write", "rank": 4},
        lr_scale=10.0,
        star="lora-adamw",
        steps=(300, 1000),
        source="titer; after arXiv:2406.11717",
    ),
    "N04": Preset(
        family="written by a network",
        title="hypernetwork: low-rank weights, by reward",
        fields={"lr": 2e-4, "objective": "grpo", "batch_size": 8},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(200, 600),
        source="titer; after arXiv:2402.03300",
    ),
}

CARD = Card(
    kind="attack",
    build=Hypernet,
    source="arXiv:2509.08000",
    summary="a network trained to write edits of the frozen model, folded into its weights",
    family="hypernetwork",
    version=2,
    departures="against a frozen model; zero start, normalised inputs, a budget; one patch for all",
    presets=PRESETS,
)
