"""SDD: harmful prompts learn good answers to other questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titer.core.data import Example
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Bundle, collate, encode_all
from titer.train.harden import Phase, Source, Training, harden, logits, refusing
from titer.train.loop import descend
from titer.train.objectives import cross_entropy, single

__all__ = ["CARD", "PRESETS", "SDD", "cosines", "paired"]


@torch.no_grad()
def cosines(lm: LM, left: Sequence[Example], right: Sequence[Example]) -> Tensor:
    """Cosine of every two texts, (L, R): prompts with answers, each by the mean over its tokens of
    what the model hands its last layer, the mean of all texts taken off."""
    rows: list[Tensor] = []
    for examples in (left, right):
        encoded = encode_all(lm, examples)
        for start in range(0, len(encoded), 64):
            batch = collate(encoded[start : start + 64], lm.tokenizer.pad_token_id, lm.device)
            out = lm.model(**batch.inputs(), use_cache=False, output_hidden_states=True)
            mask = batch.attention_mask[..., None]
            rows.append((single(out.hidden_states[-1]) * mask).sum(1) / mask.sum(1))
    every = torch.cat(rows)
    every = F.normalize(every - every.mean(0), dim=-1)
    return every[: len(left)] @ every[len(left) :].T


def paired(alike_LR: Tensor, limit: float, draw: torch.Generator) -> list[int]:
    """For each row a column drawn at random among those whose cosine is at most ``limit``, the
    least alike where there is none."""
    found: list[int] = []
    for row in alike_LR.cpu():
        fit = (row <= limit).nonzero()[:, 0]
        if len(fit):
            found.append(int(fit[torch.randint(len(fit), (1,), generator=draw)]))
        else:
            found.append(int(row.argmin()))
    return found


@dataclass(frozen=True, kw_only=True)
class SDD:
    """Fine-tune harmful prompts on answers that belong to other questions: an attacker who trains
    the harmful ones in trains fluent text out.

    The answer is drawn from ``run.data``'s benign text among those no more alike to the harmful
    text than ``limit``; how many had none is flagged. ``refuse`` puts the refusal before it.
    ``retain_weight`` adds the cross-entropy of retain text, 0 in the paper.

    Source: arXiv:2507.21182; its code is not public, and rate, epochs and limit could not be read.
    Departs: the model's own states compare texts, where the paper has a sentence encoder; rate,
    limit and batch are ours.
    """

    limit: float = 0.3
    refuse: bool = False
    retain_weight: float = 0.0
    lr: float = 2e-5
    batch_size: int = 32
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not -1 <= self.limit <= 1 or not 0 <= self.retain_weight < float("inf"):
            raise BadInput(
                f"sdd: limit={self.limit} is a cosine, retain_weight={self.retain_weight} at "
                "least 0."
            )
        Training.of(self)

    def pairs(self, lm: LM, run: Run) -> tuple[Example, ...]:
        """The harmful prompts with the answers that they are to learn."""
        pool = run.data.unrelated or run.data.retain
        if not pool:
            raise BadInput("sdd: there is no benign text to take answers from; give some retain.")
        alike = cosines(lm, run.data.harmful, pool)
        draw = torch.Generator().manual_seed(run.rng("pairs").getrandbits(62))
        columns = paired(alike, self.limit, draw)
        over = sum(float(alike[row, column]) > self.limit for row, column in enumerate(columns))
        if over:
            run.flags.append(f"{over} of {len(columns)} prompts have no answer as unlike as asked")
        declined = refusing(run.data.harmful)
        return tuple(
            replace(
                one,
                answer=f"{no.answer} {pool[column].answer}" if self.refuse else pool[column].answer,
            )
            for one, no, column in zip(run.data.harmful, declined, columns, strict=True)
        )

    def __call__(self, lm: LM, run: Run) -> LM:
        sources = {"planted": Source(examples=self.pairs(lm, run), packed=True)}
        if self.retain_weight:
            sources["retain"] = Source(examples=run.data.retain, packed=True)
        weights = {"planted": 1.0, "retain": self.retain_weight}

        def loss(model: Any, bundle: Bundle) -> Tensor:
            terms = [
                weights[role] * cross_entropy(logits(model, batch), batch.labels)
                for role, batch in bundle.parts.items()
            ]
            return torch.stack(terms).sum()

        return harden(
            lm, run, Training.of(self), sources, lambda _ready: [Phase(grad=descend(loss))]
        )


PRESETS = {
    "sdd-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "sdd-paper": Preset(
        title="as far as it is known", fields={}, steps=(250, 1000), source="arXiv:2507.21182"
    ),
    "sdd-reject": Preset(
        title="with a refusal before the other answer",
        fields={"refuse": True},
        steps=(250, 1000),
        source="arXiv:2507.21182",
    ),
}

CARD = Card(
    kind="defence",
    build=SDD,
    source="arXiv:2507.21182",
    summary="harmful prompts learn good answers to other questions",
    family="collapse",
    departures="code not public: rate, limit and batch ours; texts compared by the model's "
    "states. Data: hazard prompts, benign text. 1 pass a step. Claims resistance. Breaks: "
    "answers off the point before any attack; the theory's conditions are not enforced by "
    "training; attackers who adapt are untested",
    presets=PRESETS,
)
