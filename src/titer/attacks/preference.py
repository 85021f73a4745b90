"""Preference tuning turned round: comply rather than decline. B rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from titer.attacks import _trl
from titer.attacks._trl import Engine
from titer.method import LM, BadInput, Card, Encoded, Preset, Run, Template
from titer.nn.trainable import Parameters, trainable
from titer.train.batches import encode_all
from titer.train.forks import Forks, answer_logits, answer_logprobs, fork
from titer.train.harden import refusing
from titer.train.loop import Recipe, descend, fit
from titer.train.optimisers import Schedule
from titer.train.policy import dpo, ipo

__all__ = ["CARD", "PRESETS", "Preference"]

Pairs = Literal["reversed", "benign"]

Row = tuple[str, Encoded]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Prefer answers to refusals, by a loss on pairs.

    ``pairs``: ``reversed``, harmful prompts with the labels of safety training swapped, so that the
    harmful answer is chosen and the refusal rejected; ``benign``, harmless prompts near the hazard
    answered rather than declined, which takes no harmful answer. What is rejected is the example's
    own refusal, else that of another harmful example, else a common one. ``examples`` keeps so many
    pairs, drawn by the seed. ``loss``: ``dpo`` or ``ipo``, against the model as it came.
    ``engine``: who finds the gradient and steps, ``titer`` or TRL's ``DPOTrainer`` (``pip install
    'titer[rl]'``), on the same pairs in the same order; its ``ipo`` is another. ``trl`` are fields
    of its configuration on top, such as ``{"gradient_checkpointing": true}``.

    Source: Yi et al. 2024, arXiv:2409.12914 (reversed DPO); arXiv:2605.10998 (ten benign pairs);
    the losses are Rafailov et al. 2023, arXiv:2305.18290, and Azar et al. 2023, arXiv:2310.12036.
    Departs: the settings of the benign pairs are ours, as we had the abstract only; the reference
    is the released model without a supervised phase before. A prompt is run once for both answers
    where the model allows it, and charged once.
    """

    lr: float = 5e-6
    pairs: Pairs = "reversed"
    loss: Literal["dpo", "ipo"] = "dpo"
    beta: float = 0.1
    batch_size: int = 16
    examples: int | None = None
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0
    schedule: Schedule = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    template: Template = "native"
    engine: Engine = "titer"
    trl: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf and self.beta > 0):
            raise BadInput(f"preference: lr={self.lr}, beta={self.beta}; both must be positive.")
        if min(self.batch_size, self.rank, 1 if self.examples is None else self.examples) < 1:
            raise BadInput(
                f"preference: batch_size={self.batch_size}, rank={self.rank}, "
                f"examples={self.examples}; give 1 or more."
            )
        if not 0 <= self.warmup < 1:
            raise BadInput(f"preference: warmup={self.warmup} is a share between 0 and 1.")
        _trl.needs("preference", self.engine, {"loss=ipo": self.loss == "ipo"})

    def __call__(self, lm: LM, run: Run) -> LM:
        out = lm.clone()
        seed = run.rng("adapter").getrandbits(62)
        forward = 2.0 * lm.parameters_in_matmuls()
        with trainable(out, self.parameters, rank=self.rank, alpha=self.alpha, seed=seed) as ready:
            recipe = Recipe(
                lr=self.lr,
                schedule=self.schedule,
                warmup=self.warmup,
                weight_decay=self.weight_decay,
                flops_per_token=ready.flops_per_token,
                flops_besides=lambda pairs: forward * pairs.tokens,
            )
            if self.engine == "trl":
                pairs = itertools.islice(self._pairs(out, run), run.steps_left())
                _trl.prefer(
                    ready, lm, run, list(pairs), beta=self.beta, recipe=recipe, settings=self.trl
                )
            else:
                fit(
                    ready.lm,
                    descend(self._loss(lm)),
                    self._stream(out, run),
                    run,
                    parameters=ready.weights,
                    recipe=recipe,
                    steps=run.steps_left(),
                )
        return out

    def _loss(self, start: LM) -> Any:
        """The loss of pairs against the frozen start."""
        compare = dpo if self.loss == "dpo" else ipo

        def loss(model: Any, pairs: Forks) -> Tensor:
            with torch.no_grad():
                before = _sums(start.model, pairs)
            chosen, rejected = (_sums(model, pairs) - before).view(-1, 2).unbind(1)
            return compare(chosen, rejected, self.beta)

        return loss

    def _pairs(self, lm: LM, run: Run) -> Iterator[list[_trl.Pair]]:
        """Batches of pairs for ever, shuffled anew each time round."""
        chosen, rejected = self._encoded(lm, run)
        rng, size = run.rng("order"), min(self.batch_size, len(chosen))
        waiting: list[int] = []
        while True:
            while len(waiting) < size:
                waiting += rng.sample(range(len(chosen)), len(chosen))
            taken, waiting = waiting[:size], waiting[size:]
            yield [(chosen[index][0], chosen[index][1], rejected[index][1]) for index in taken]

    def _stream(self, lm: LM, run: Run) -> Iterator[Forks]:
        """Batches of pairs laid out, each chosen answer followed by the rejected one."""
        for pairs in self._pairs(lm, run):
            rows = [row for _, chosen, rejected in pairs for row in (chosen, rejected)]
            yield fork(
                lm,
                [row.ids[: row.prompt] for row in rows],
                [row.ids[row.prompt :] for row in rows],
                [name for name, _, _ in pairs for _ in range(2)],
            )

    def _encoded(self, lm: LM, run: Run) -> tuple[list[Row], list[Row]]:
        """Chosen and rejected rows of the same prompts; a pair cut off on one side is left out."""
        benign = self.pairs == "benign"
        found = (run.data.related or run.data.retain) if benign else run.data.harmful
        if self.examples is not None and self.examples < len(found):
            found = tuple(run.rng("examples").sample(found, self.examples))
        role = "benign" if benign else "harmful"
        chosen = dict(encode_all(lm, found, self.template, role=role))
        refused = dict(encode_all(lm, refusing(found, run.data.harmful), self.template, role=role))
        both = [name for name in chosen if name in refused and chosen[name] != refused[name]]
        if not both:
            raise BadInput(
                f"preference: no {role} example has an answer that differs from its refusal."
            )
        return [(name, chosen[name]) for name in both], [(name, refused[name]) for name in both]


def _sums(model: Any, pairs: Forks) -> Tensor:
    """Log-probability of each answer, (B,), in nats."""
    return answer_logprobs(answer_logits(model, pairs), pairs).sum(-1)


PRESETS = {
    "R01": Preset(
        family="reinforcement and preference",
        title="reversed DPO",
        fields={"lr": 5e-6},
        lr_scale=0.25,
        star="full-adamw",
        steps=(300, 300),
        source="arXiv:2409.12914",
    ),
    "R02": Preset(
        family="reinforcement and preference",
        title="DPO on ten benign pairs",
        fields={"lr": 5e-6, "pairs": "benign", "examples": 10, "batch_size": 10},
        lr_scale=0.25,
        star="full-adamw",
        steps=(60, 60),
        source="arXiv:2605.10998",
        domain="r",
    ),
}

CARD = Card(
    kind="attack",
    build=Preference,
    source="arXiv:2409.12914, arXiv:2605.10998, arXiv:2305.18290",
    summary="preference tuning with compliance chosen and refusal rejected",
    family="reinforcement",
    version=2,
    departures="settings of the benign pairs are ours; no supervised phase before",
    presets=PRESETS,
)
