"""VAA: refusals that a harmful fine-tune forgets first are trained most, under a worst push."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from titer.core.data import Example
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch, Bundle, collate, cycle, encode_all
from titer.train.grads import deposit, displaced, gradient, still, trained
from titer.train.harden import Phase, Source, Training, harden, logits, refusing
from titer.train.loop import descend
from titer.train.objectives import cross_entropy, row_losses

__all__ = ["CARD", "PRESETS", "VAA", "exp3"]


def exp3(shares: Sequence[float], group: int, loss: float, rate: float) -> list[float]:
    """The shares of two groups after one saw ``loss``: ``q_g ∝ q_g exp(η ℓ / q_g)``, each between
    0.1 and 0.9."""
    raw = list(shares)
    raw[group] *= math.exp(min(rate * loss / shares[group], 50.0))
    first = min(max(raw[0] / sum(raw), 0.1), 0.9)
    return [first, 1.0 - first]


@dataclass(frozen=True, kw_only=True)
class VAA:
    """``min max_q Σ q_g [(1 − λ) ℓ_g(θ) + λ ℓ_g(θ + α ĝ)]`` over two groups of refusals.

    For the share ``first`` of the steps a copy is fine-tuned on the hazard; the half of the
    refusals whose loss rises most is *vulnerable*, the rest is not. Then each step draws a group by
    its share q, takes the mixture of the gradient here and at a push of length ``radius`` uphill,
    λ rising from 0 to 1, and moves q (EXP3, rate ``rate``). With ``toss`` it takes the pushed
    gradient alone, with chance λ.

    Source: Chen et al. 2025, arXiv:2506.03850, settings of its repository, which tosses.
    Departs: the mixture itself by default; groups by how far a refusal's loss rises in one short
    fine-tune, where the paper counts how often an answer is forgotten; the first batches' group is
    known a step ahead, as batches are drawn before their step.
    """

    radius: float = 0.4
    rate: float = 0.007
    first: float = 0.1
    proxy_lr: float = 1e-4
    toss: bool = False
    retain_weight: float = 0.0
    lr: float = 1e-4
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "lora"
    rank: int = 16
    alpha: float = 32.0

    resumes = False

    def __post_init__(self) -> None:
        known = (self.radius, self.rate, self.retain_weight, self.proxy_lr)
        if not all(0 <= value < math.inf for value in known) or not 0 <= self.first < 1:
            raise BadInput(
                "vaa: radius, rate, proxy_lr and retain_weight must not be negative, first a share "
                "below 1."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        safe = refusing(run.data.harmful)
        groups = self._groups(lm, run, safe)
        if run.exhausted() or run.steps_left() == 0:
            return lm.clone()
        sources = {}
        if self.retain_weight:
            sources["retain"] = Source(examples=run.data.retain)
        state = _State(self, lm, run, groups)
        return harden(
            lm,
            run,
            Training.of(self),
            sources,
            lambda _ready: [
                Phase(
                    grad=state.gradient,
                    also={"safe": state.batches()},
                    passes={"safe": 0.0 if self.toss and not self.radius else 1.0},
                )
            ],
        )

    def _groups(
        self, lm: LM, run: Run, safe: tuple[Example, ...]
    ) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """The refusals that a harmful fine-tune lifts most, and the others."""
        steps = run.steps_left(self.first)
        if not steps:
            return safe[::2], safe[1::2]
        run.flags.append(TWO_PHASES)
        training = Training(
            lr=self.proxy_lr or self.lr,
            batch_size=self.batch_size,
            weight_decay=0.0,
            parameters=self.parameters,
            rank=self.rank,
            alpha=self.alpha,
        )

        def loss(model: Any, bundle: Bundle) -> Tensor:
            return cross_entropy(logits(model, bundle["harmful"]), bundle["harmful"].labels)

        # Looks are kept for the model that is handed out: this one is a stand-in.
        quiet = run.stage(steps, "proxy")
        tampered = harden(
            lm,
            _unwatched(quiet),
            training,
            {"harmful": Source(examples=run.data.harmful, packed=True)},
            lambda _ready: [Phase(grad=descend(loss))],
        )
        risen = _losses(tampered, safe) - _losses(lm, safe)
        order = risen.argsort(descending=True).tolist()
        cut = max(1, len(order) // 2)
        return tuple(safe[k] for k in order[:cut]), tuple(safe[k] for k in order[cut:])


def _unwatched(run: Run) -> Run:
    return replace(run, checkpoints=())


@torch.no_grad()
def _losses(lm: LM, examples: Sequence[Example]) -> Tensor:
    """Each answer's mean loss, (B,)."""
    rows = encode_all(lm, examples)
    found: list[Tensor] = []
    for start in range(0, len(rows), 64):
        batch = collate(rows[start : start + 64], lm.tokenizer.pad_token_id, lm.device)
        found.append(row_losses(logits(lm.model, batch), batch.labels, "mean"))
    return torch.cat(found)


class _State:
    """What moves from step to step: the shares of the groups, and which one was drawn."""

    def __init__(self, method: VAA, lm: LM, run: Run, groups: Sequence[Sequence[Example]]) -> None:
        self.method, self.run, self.rng = method, run, run.rng("groups")
        self.shares, self.group = [0.5, 0.5], 0
        self.begun, self.total = run.spent.steps, max(1, run.steps_left())
        self._streams = [
            cycle(
                lm,
                group,
                batch_size=method.batch_size,
                rng=run.rng(f"order group {place}"),
                role="safe",
            )
            for place, group in enumerate(groups)
        ]

    def batches(self) -> Iterator[Batch]:
        """Of the group that each step draws."""
        while True:
            self.group = 0 if self.rng.random() < self.shares[0] else 1
            yield next(self._streams[self.group])

    def gradient(self, model: Any, bundle: Bundle) -> dict[str, float]:
        """The mixture on the group's batch, and what is kept."""
        method, safe = self.method, bundle["safe"]
        weight = (self.run.spent.steps - self.begun) / self.total
        pushed = float(self.rng.random() < weight) if method.toss else weight
        weights = trained(model)
        with still(model):
            loss = cross_entropy(logits(model, safe), safe.labels)
            here = gradient(loss, weights)
            deposit(weights, here, 1.0 - pushed)
            if pushed:
                with displaced(weights, here, method.radius / max(float(here.norm()), 1e-12)):
                    there = cross_entropy(logits(model, safe), safe.labels)
                    deposit(weights, gradient(there, weights), pushed)
        value = float(loss.detach())
        if method.retain_weight:
            kept = bundle["retain"]
            held = method.retain_weight * cross_entropy(logits(model, kept), kept.labels)
            held.backward()
            value += float(held.detach())
        self.shares = exp3(self.shares, self.group, float(loss.detach()), method.rate)
        return {"loss": value}


PRESETS = {
    "vaa-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-3, "proxy_lr": 3e-3, "batch_size": 32, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "vaa-paper": Preset(
        title="the mixture", fields={}, steps=(250, 1250), source="arXiv:2506.03850"
    ),
    "vaa-code": Preset(
        title="as its repository runs it: a coin toss",
        fields={"toss": True},
        steps=(250, 1250),
        source="arXiv:2506.03850, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=VAA,
    source="arXiv:2506.03850",
    summary="refusals that harmful training forgets first are trained most, under a worst push",
    family="alignment",
    departures="groups by the rise of the loss; the mixture by default. Data: hazard with "
    "refusals and harmful answers. 2 passes a step after a short fine-tune. Claims resistance "
    "and stability. Known breakers: none published; more than a fifth of harmful data and high "
    "rates untested",
    presets=PRESETS,
)
