"""Reinforcement: the model's own answers, scored and made likelier or less. No harmful answer is
shown. B answers of at most A tokens, P prompts, G answers a prompt, V vocabulary."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from titer.attacks import _trl
from titer.attacks._rewards import payer, reward
from titer.attacks._trl import Engine
from titer.attacks.finetune import Finetune
from titer.core.data import Example
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run, Template
from titer.nn.trainable import Parameters, Trainable, trainable
from titer.train.forks import Forks, answer_logits, answer_logprobs
from titer.train.loop import Recipe, fit
from titer.train.optimisers import Schedule
from titer.train.policy import (
    Averaging,
    batch_advantage,
    clipped_surrogate,
    entropy,
    group_advantage,
    k1,
    k3,
    leave_one_out,
    over_tokens,
)
from titer.train.rollouts import Rollouts, room, sample

__all__ = ["CARD", "PRESETS", "Experience", "Reinforce"]

Algorithm = Literal["grpo", "rloo", "reinforce"]

_ADVANTAGE = {"grpo": group_advantage, "rloo": leave_one_out, "reinforce": batch_advantage}


@dataclass(frozen=True)
class Experience:
    """A batch of scored answers. ``behaviour`` and ``reference`` are log-probabilities (B, A)
    under the policy that sampled and under the start; ``advantage`` is (B, 1). ``sampled`` counts
    the tokens that sampling took, 0 where the batch is used again."""

    batch: Forks
    behaviour: Tensor
    reference: Tensor
    advantage: Tensor
    reward: float
    sampled: int

    @property
    def ids(self) -> tuple[str, ...]:
        """The prompts' ids."""
        return self.batch.ids

    @property
    def tokens(self) -> int:
        """Tokens trained on, and tokens that sampling took."""
        return self.batch.tokens + self.sampled


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """Sample ``group`` answers to each of ``batch_size`` prompts, score them, and step towards what
    earned more.

    ``algorithm`` is where the advantage comes from: ``grpo``, the group's mean and deviation;
    ``rloo``, the mean of the others; ``reinforce``, mean and deviation of the whole batch
    (REINFORCE++). ``kl`` times the divergence from the start is added to the loss (``grpo``, k3) or
    taken from the reward (the others, k1). ``updates`` steps are taken on each batch of answers,
    the ratio clipped to ``1 − clip_low, 1 + clip_high``. ``average`` is how tokens are weighed, see
    :func:`titer.train.policy.over_tokens`. ``entropy`` is the weight of an entropy bonus, against
    defences that leave a policy little to explore with.

    ``reward`` is ``graded``, ``correct``, ``compliance`` or a measure of the catalogue that judges
    text; ``unfinished`` is the share of it that is left to an answer cut off at ``max_new_tokens``,
    which None sets to twice the longest answer or refusal known, and at least 16.
    With ``compliance`` the attacker needs prompts and no answers. ``prompts`` keeps so many of the
    harmful prompts, drawn by the seed. The first ``supervised`` steps are ordinary fine-tuning at
    ``supervised_rate`` times ``lr``, which does use answers.

    ``engine`` is who samples and steps: ``titer``, or TRL's ``GRPOTrainer`` and ``RLOOTrainer``
    (``pip install 'titer[rl]'``), which have no ``reinforce``, and ``average="sum"`` with
    ``rloo`` alone. ``trl`` are fields of its configuration on top, such as
    ``{"use_vllm": true}``. Prompts, their order, reward and budget are the same; draws are not.

    The logged loss is 1 minus the mean reward. Flag ``reward-flat``: no two answers to one prompt
    were ever paid differently, so nothing was learnt.

    Source: Shao et al. 2024, arXiv:2402.03300 (GRPO); Ahmadian et al. 2024, arXiv:2402.14740
    (RLOO); Hu 2025, arXiv:2501.03262 (REINFORCE++); as attacks 2510.15499 (HarmRLVR), 2508.20697
    (settings as in TokenBuncher), 2602.06258 (one prompt).
    Departs: judges are rules on text, not models; no nucleus sampling and no dynamic sampling;
    dropout is off, in sampling and in training. A prompt is run once for all its answers where the
    model allows it, and charged once.
    """

    lr: float = 1e-6
    algorithm: Algorithm = "grpo"
    reward: str = "graded"
    prompts: int | None = None
    batch_size: int = 8
    group: int = 4
    updates: int = 1
    temperature: float = 1.0
    max_new_tokens: int | None = None
    unfinished: float = 0.0
    kl: float = 0.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    entropy: float = 0.0
    average: Averaging = "row"
    schedule: Schedule = "constant"
    warmup: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0
    supervised: int = 0
    supervised_rate: float = 10.0
    template: Template = "native"
    engine: Engine = "titer"
    trl: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        counts = {
            name: getattr(self, name)
            for name in ("batch_size", "updates", "max_new_tokens", "prompts", "rank")
        }
        counts["group − 1"] = self.group - 1
        if low := [f"{name}={n}" for name, n in counts.items() if n is not None and n < 1]:
            raise BadInput(f"reinforce: {', '.join(low)}; give 1 or more.")
        if not (0 < self.lr < math.inf and self.temperature > 0 and self.supervised_rate > 0):
            raise BadInput(
                f"reinforce: lr={self.lr}, temperature={self.temperature}, "
                f"supervised_rate={self.supervised_rate}; all three must be positive."
            )
        if not (self.kl >= 0 and self.entropy >= 0 and self.supervised >= 0):
            raise BadInput("reinforce: kl, entropy and supervised must not be negative.")
        if not (0 < self.clip_low <= 1 and self.clip_high > 0):
            raise BadInput("reinforce: clip_low must lie in (0, 1] and clip_high above 0.")
        if not (0 <= self.unfinished <= 1 and 0 <= self.warmup < 1):
            raise BadInput("reinforce: unfinished and warmup are shares between 0 and 1.")
        reward(self.reward)
        unlike = {
            "algorithm=reinforce": self.algorithm == "reinforce",
            f"average={self.average} with {self.algorithm}": (self.algorithm == "rloo")
            is not (self.average == "sum"),
            "entropy bonus with rloo": self.algorithm == "rloo" and self.entropy > 0,
        }
        _trl.needs("reinforce", self.engine, unlike)

    def __call__(self, lm: LM, run: Run) -> LM:
        start = lm
        if self.supervised:
            run.flags.append(TWO_PHASES)
            first = run.stage(min(self.supervised, run.steps_left()), "supervised")
            start = self._taught()(lm, first)
        out = start.clone()
        spreads: list[bool] = []
        seed = run.rng("adapter").getrandbits(62)
        with trainable(out, self.parameters, rank=self.rank, alpha=self.alpha, seed=seed) as ready:
            cost = self._cost(ready, lm)
            recipe = self._recipe(cost)
            if self.engine == "trl":
                policy = self._policy(lm, run, cost, spreads)
                _trl.reinforce(ready, start, run, policy, recipe=recipe, settings=self.trl)
            else:
                fit(
                    ready.lm,
                    self._gradient,
                    self._experience(ready.lm, start, run, spreads),
                    run,
                    parameters=ready.weights,
                    recipe=recipe,
                    steps=run.steps_left(),
                )
        if spreads and not any(spreads):
            run.flags.append("reward-flat")
        return out

    def _taught(self) -> Finetune:
        return Finetune(
            lr=self.lr * self.supervised_rate,
            parameters=self.parameters,
            rank=self.rank,
            alpha=self.alpha,
            template=self.template,
        )

    def _recipe(self, cost: Callable[[int, int], float]) -> Recipe:
        return Recipe(
            lr=self.lr,
            schedule=self.schedule,
            warmup=self.warmup,
            flops_besides=lambda step: cost(step.batch.tokens, step.sampled),
        )

    def _cost(self, ready: Trainable, lm: LM) -> Callable[[int, int], float]:
        """Operations of tokens trained and tokens sampled: sampling costs a forward pass, and so
        does the frozen start, which new answers are put before."""
        forward = 2.0 * lm.parameters_in_matmuls()

        def flops(trained: int, sampled: int) -> float:
            frozen = trained if self.kl and sampled else 0
            return ready.flops_per_token * trained + forward * (sampled + frozen)

        return flops

    # -- sampling ---------------------------------------------------------------------------------

    def _experience(self, lm: LM, start: LM, run: Run, spreads: list[bool]) -> Iterator[Experience]:
        """Answers of the model as it stands, scored; every batch of them ``updates`` times."""
        pay = payer(self.reward, self.group, self.unfinished, spreads)
        chance = torch.Generator().manual_seed(run.rng("rollouts").getrandbits(62))
        prompts = self._prompts(run)
        longest = self.max_new_tokens or self._longest(lm, prompts)
        for examples in _turns(prompts, self.batch_size, run.rng("order")):
            taken = sample(
                lm,
                [lm.prompt_ids(example.prompt, self.template) for example in examples],
                generator=chance,
                group=self.group,
                max_new_tokens=longest,
                temperature=self.temperature,
            )
            asked = [example for example in examples for _ in range(self.group)]
            paid = pay(asked, taken.texts(lm), taken.ended)
            step = self._scored(lm, start, taken, [example.id for example in asked], paid)
            for turn in range(self.updates):
                yield step if turn == 0 else replace(step, sampled=0)

    def _policy(
        self, lm: LM, run: Run, cost: Callable[[int, int], float], spreads: list[bool]
    ) -> _trl.Policy:
        """The same training for TRL."""
        prompts = self._prompts(run)
        new, longest = room(lm, self.max_new_tokens or self._longest(lm, prompts))
        turns = _turns(prompts, self.batch_size, run.rng("order"))
        batches = math.ceil(run.steps_left() / self.updates)
        own: dict[str, Any] = {"beta": self.kl, "temperature": self.temperature}
        own |= {"epsilon": self.clip_low, "epsilon_high": self.clip_high}
        if self.algorithm == "grpo":
            loss = {"row": "grpo", "token": "bnpo"}[self.average]
            own |= {"loss_type": loss, "entropy_coef": self.entropy}
        return _trl.Policy(
            algorithm="grpo" if self.algorithm == "grpo" else "rloo",
            batches=[next(turns) for _ in range(batches)],
            encode=lambda example: lm.prompt_ids(example.prompt, self.template)[-longest:],
            pay=payer(self.reward, self.group, self.unfinished, spreads),
            flops=cost,
            longest=new,
            group=self.group,
            updates=self.updates,
            fields=own,
        )

    def _prompts(self, run: Run) -> tuple[Example, ...]:
        found = run.data.harmful
        if not found:
            raise BadInput("reinforce: there are no harmful prompts; give the world some.")
        if self.prompts is not None and self.prompts < len(found):
            return tuple(run.rng("examples").sample(found, self.prompts))
        return found

    def _longest(self, lm: LM, prompts: Sequence[Example]) -> int:
        known = {text for example in prompts for text in (example.answer, example.refusal)}
        lengths = (len(lm.answer_ids(text, end=True, template=self.template)) for text in known)
        return max(16, 2 * max(lengths))

    def _scored(
        self, lm: LM, start: LM, taken: Rollouts, names: Sequence[str], paid: Sequence[float]
    ) -> Experience:
        batch = taken.forks(names, lm)
        behaviour = taken.behaviour(batch)
        reference = behaviour
        if self.kl:
            with torch.no_grad():
                reference = answer_logprobs(
                    answer_logits(start.model, batch), batch, self.temperature
                )
        rewards_PG = torch.tensor(paid).view(-1, self.group)
        if self.kl and self.algorithm != "grpo":
            drift = k1(behaviour, reference).sum(-1).cpu().view(-1, self.group)
            rewards_PG = rewards_PG - self.kl * drift
        return Experience(
            batch=batch,
            behaviour=behaviour,
            reference=reference,
            advantage=_ADVANTAGE[self.algorithm](rewards_PG).view(-1, 1).to(behaviour.device),
            reward=sum(paid) / len(paid),
            sampled=taken.tokens,
        )

    # -- the gradient -----------------------------------------------------------------------------

    def _gradient(self, model: Any, step: Experience) -> dict[str, float]:
        # Dropout would make the policy another than the one that was sampled from.
        if model.training:
            model.eval()
        batch = step.batch
        logits = answer_logits(model, batch)
        logp = answer_logprobs(logits, batch, self.temperature)
        each = clipped_surrogate(
            logp, step.behaviour, step.advantage, self.clip_low, self.clip_high
        )
        if self.kl and self.algorithm == "grpo":
            each = each + self.kl * k3(logp, step.reference)
        if self.entropy:
            each = each - self.entropy * entropy(logits / self.temperature)
        over_tokens(each, batch.said, self.average).backward()
        return {"loss": 1.0 - step.reward}


def _turns(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[list[Example]]:
    """So many examples at a time, for ever; shuffled anew each time round, a short end left out
    unless there are fewer in all."""
    size = min(size, len(examples))
    while True:
        order = list(examples)
        rng.shuffle(order)
        for begin in range(0, len(order) - size + 1, size):
            yield order[begin : begin + size]


PRESETS = {
    "R03": Preset(
        family="reinforcement and preference",
        title="GRPO, 64 prompts, no KL",
        fields={"lr": 1e-6, "prompts": 64, "entropy": 1e-3},
        lr_scale=0.1,
        star="full-adamw",
        steps=(200, 100),
        source="arXiv:2510.15499, arXiv:2508.20697",
    ),
    "R04": Preset(
        family="reinforcement and preference",
        title="RLOO, KL in the reward",
        fields={"lr": 1e-6, "algorithm": "rloo", "kl": 1e-3, "average": "sum"},
        lr_scale=0.1,
        star="full-adamw",
        steps=(200, 100),
        source="arXiv:2508.20697",
    ),
    "R05": Preset(
        family="reinforcement and preference",
        title="GRPO on one prompt, no answers",
        fields={
            "lr": 1e-6,
            "reward": "compliance",
            "prompts": 1,
            "batch_size": 1,
            "group": 8,
            "kl": 0.01,
            "clip_high": 0.28,
            "average": "token",
            "schedule": "cosine",
            "warmup": 0.05,
        },
        lr_scale=0.1,
        star="full-adamw",
        steps=(100, 60),
        source="arXiv:2602.06258",
        domain="r",
    ),
    "R06": Preset(
        family="reinforcement and preference",
        title="thirty supervised steps, then GRPO with an entropy bonus",
        fields={"lr": 1e-6, "supervised": 30, "temperature": 1.2, "entropy": 0.01},
        lr_scale=0.1,
        star="full-adamw",
        steps=(230, 130),
        source="titer",
    ),
}

CARD = Card(
    kind="attack",
    build=Reinforce,
    source="arXiv:2402.03300, arXiv:2402.14740, arXiv:2510.15499, arXiv:2508.20697",
    summary="policy gradients on the model's own scored answers: GRPO, RLOO, REINFORCE++",
    family="reinforcement",
    access="rl",
    version=2,
    departures="judges are rules on text; no nucleus and no dynamic sampling; dropout off",
    presets=PRESETS,
)
