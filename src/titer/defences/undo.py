"""Unlearn, noise, distil on outputs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import TWO_PHASES, Card, Preset
from titer.nn.chance import seeded
from titer.nn.trainable import trainable
from titer.train.batches import IGNORED, Batch, cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.nested import nested
from titer.train.objectives import kl_to
from titer.train.optimisers import Schedule

__all__ = ["CARD", "PRESETS", "UNDO", "noised"]

Text = Literal["retain", "related", "unrelated", "harmful"]


@torch.no_grad()
def noised(model: nn.Module, share: float, scale: float, seed: int) -> None:
    """Mix every weight with a fresh start, in place: ``(1 − share) θ + share · fresh``.

    A matrix' fresh start is Xavier uniform times ``scale``; a norm's gain goes towards 1 and a bias
    towards 0.

    Source: Lee et al. 2025, arXiv:2506.06278 (α is ``share``, β ``scale``).
    Departs: its repository takes 0 for gains as well, which kills the network at a share of 1.
    """
    device = next(model.parameters()).device
    with seeded(seed, device):
        done: set[int] = set()
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) in done:
                    continue
                done.add(id(weight))
                if weight.dim() >= 2:
                    fresh = scale * nn.init.xavier_uniform_(torch.empty_like(weight))
                elif name == "weight":
                    fresh = torch.ones_like(weight)
                else:
                    fresh = torch.zeros_like(weight)
                weight.mul_(1.0 - share).add_(share * fresh)


@dataclass(frozen=True, kw_only=True)
class UNDO:
    """Make a model that has unlearned the teacher of a noisy copy of itself.

    ``base`` (any defence) unlearns for the share ``first`` of the steps; a copy of its result is
    mixed with noise, ``share`` of it, and learns the teacher's distributions, ``KL(teacher ‖
    student)`` at every real token of ``text``, for the rest. What the teacher only hides is not in
    its outputs and is lost with the noise; ``share`` trades that against compute. With ``first`` 1
    the result is the base's to the bit. Every weight trains.

    Source: Lee et al. 2025, arXiv:2506.06278; β = 0.1 as in its repository.
    Departs: gains of norms go towards 1, see :func:`noised`; the unlearning itself is ``base``'s;
    distillation reads the defender's text, not a pre-training corpus.
    """

    base: Any = "npo"
    first: float = 0.1
    share: float = 0.6
    scale: float = 0.1
    text: tuple[Text, ...] = ("retain", "related", "unrelated")
    lr: float = 2e-5
    schedule: Schedule = "cosine"
    warmup: float = 0.02
    batch_size: int = 32
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", nested("defence", self.base))
        if not (0 <= self.share <= 1 and 0 < self.first <= 1 and 0 <= self.warmup < 1):
            raise BadInput("undo: first, share and warmup are shares between 0 and 1.")
        if not (0 < self.lr < math.inf and 0 <= self.scale < math.inf) or self.batch_size < 1:
            raise BadInput("undo: lr and batch_size must be positive, scale not negative.")
        if not self.text:
            raise BadInput("undo: text must name what to distil on.")

    def __call__(self, lm: LM, run: Run) -> LM:
        steps = run.steps_left(self.first)
        # Not a stage: the base's chance is the same as alone.
        budget = replace(run.budget, steps=run.spent.steps + steps)
        teacher = self.base(lm, replace(run, budget=budget))
        if run.exhausted() or run.steps_left() == 0:
            return teacher
        run.flags.append(TWO_PHASES)
        student = LM(copy.deepcopy(teacher.model), lm.tokenizer, lm.name)
        noised(student.model, self.share, self.scale, run.rng("noise").getrandbits(62))
        examples = [example for part in self.text for example in getattr(run.data, part)]
        stream = cycle(
            student,
            examples,
            batch_size=self.batch_size,
            rng=run.rng("order distil"),
            role="distillation",
            packed=True,
        )
        forward = 2.0 * lm.parameters_in_matmuls()
        with trainable(student, "full") as ready:
            fit(
                ready.lm,
                descend(lambda model, batch: distance(teacher.model, model, batch)),
                stream,
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=self.lr,
                    schedule=self.schedule,
                    warmup=self.warmup,
                    weight_decay=self.weight_decay,
                    flops_per_token=ready.flops_per_token,
                    flops_besides=lambda batch: forward * batch.tokens,
                ),
                steps=run.steps_left(),
            )
        return student


def distance(teacher: Any, student: Any, batch: Batch) -> Tensor:
    """Mean over real tokens of KL(teacher ‖ student) of the next token, in nats."""
    with torch.no_grad():
        wanted = teacher(**batch.inputs(), use_cache=False).logits
    found = student(**batch.inputs(), use_cache=False).logits
    return kl_to(wanted, found, _every_token(batch))


def _every_token(batch: Batch) -> Tensor:
    """Labels that supervise prompts too, but not padding nor the first token of a row."""
    if batch.positions is None:
        return batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
    return batch.input_ids.masked_fill(batch.positions == 0, IGNORED)


PRESETS = {
    "undo-testbed": Preset(
        title="for models of about a million parameters",
        fields={
            "base": "npo-testbed",
            "first": 0.25,
            "share": 0.6,
            "scale": 1.0,
            "lr": 1e-3,
        },
        steps=(1000, 3000),
        source="titer",
    ),
    "undo-paper": Preset(
        title="two billion parameters, share 0.25",
        fields={"share": 0.25, "scale": 0.1, "lr": 2e-5, "batch_size": 110},
        steps=(1000, 3300),
        source="arXiv:2506.06278, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=UNDO,
    source="arXiv:2506.06278",
    summary="unlearn, add noise, distil the unlearned model into the noisy copy",
    family="unlearning",
    departures="gains of norms go towards 1; distils on the defender's text",
    presets=PRESETS,
)
