"""MUDMAN: unlearn at a fork that relearns, where retain text does not object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch, Bundle
from titer.train.grads import deposit, flat, gradient, restored, still, trained
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.objectives import cross_entropy, single
from titer.train.policy import entropy

__all__ = ["CARD", "MUDMAN", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class MUDMAN:
    """Each step: the retain gradient into a running mean m; one step of the harmful loss on the
    fork θ′, which is the model again every ``fork`` steps; the gradient of ``loss`` there, kept
    where its sign is that of m, over its norm before that; then ``θ ← θ − retain_lr m − lr g``.

    ``loss`` is minus the entropy at the harmful answers' tokens, or minus their cross-entropy.

    Source: Sondej et al. 2025, arXiv:2506.12484, settings of its repository's example.
    Departs: the second gradient is taken by a pass of its own after the fork has stepped, where the
    repository goes back through activations of the old weights with the new ones, a gradient of no
    function; one of its three normalisations.
    """

    loss: Literal["entropy", "ascent"] = "entropy"
    fork: int = 32
    fork_lr: float = 1e-3
    retain_lr: float = 1e-3
    momentum: float = 0.95
    masked: bool = True
    modules: tuple[str, ...] = ()
    lr: float = 0.1
    batch_size: int = 16
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    resumes = False

    def __post_init__(self) -> None:
        if self.fork < 1 or not 0 <= self.momentum < 1:
            raise BadInput(f"mudman: fork={self.fork} is at least 1, momentum a share below 1.")
        if not all(0 <= rate < math.inf for rate in (self.fork_lr, self.retain_lr)):
            raise BadInput("mudman: fork_lr and retain_lr must not be negative.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        sources = {
            "harmful": Source(examples=run.data.harmful),
            "retain": Source(examples=run.data.retain, packed=True),
        }
        return harden(
            lm,
            run,
            Training.of(self, self.modules),
            sources,
            lambda _ready: [Phase(grad=_Fork(self, run).gradient, passes={"harmful": 1.0})],
            optimiser="sgd",
            clip=None,
        )


class _Fork:
    """What moves from step to step: the fork's weights, and the running mean."""

    def __init__(self, method: MUDMAN, run: Run) -> None:
        self.method, self.run, self.begun = method, run, run.spent.steps
        self.weights: list[Tensor] = []
        self.mean: Tensor | None = None

    def gradient(self, model: Any, bundle: Bundle) -> dict[str, float]:
        """What a step of plain SGD at ``lr`` turns into both updates."""
        method, weights, kept = self.method, trained(model), bundle["retain"]
        with still(model):
            now = gradient(cross_entropy(logits(model, kept), kept.labels), weights)
            was, keep = self.mean, method.momentum
            self.mean = now if was is None else keep * was + (1.0 - keep) * now
            if (self.run.spent.steps - self.begun) % method.fork == 0:
                self.weights = [weight.detach().clone() for weight in weights]
            value, pull = self._at_fork(model, weights, bundle["harmful"])
        size = float(pull.norm())
        if method.masked:
            pull = pull * (pull.sign() == self.mean.sign())
        deposit(weights, pull, 1.0 / max(size, 1e-12))
        deposit(weights, self.mean, method.retain_lr / method.lr)
        return {"loss": value}

    def _at_fork(self, model: Any, weights: Any, batch: Batch) -> tuple[float, Tensor]:
        with restored(weights):
            with torch.no_grad():
                for weight, forked in zip(weights, self.weights, strict=True):
                    weight.copy_(forked)
            relearn = cross_entropy(logits(model, batch), batch.labels)
            here = gradient(relearn, weights)
            with torch.no_grad():
                flown = flat(weights) - self.method.fork_lr * here
                at = 0
                for weight in weights:
                    weight.copy_(flown[at : at + weight.numel()].view_as(weight))
                    at += weight.numel()
            self.weights = [weight.detach().clone() for weight in weights]
            loss = _unlearning(self.method.loss, model, batch)
            return float(loss.detach()), gradient(loss, weights)


def _unlearning(kind: str, model: Any, batch: Batch) -> Tensor:
    out = logits(model, batch)
    if kind == "ascent":
        return -cross_entropy(out, batch.labels)
    mask = batch.labels[:, 1:] >= 0
    return -(entropy(single(out[:, :-1])) * mask).sum() / mask.sum().clamp(min=1)


PRESETS = {
    "mudman-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 0.05, "fork_lr": 0.03, "retain_lr": 0.03, "batch_size": 32},
        steps=(200, 1000),
        source="titer",
    ),
    "mudman-paper": Preset(
        title="the repository's example: gate projections, forks of 32",
        fields={"modules": ("mlp.gate_proj",)},
        steps=(200, 160),
        source="arXiv:2506.12484, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=MUDMAN,
    source="arXiv:2506.12484",
    summary="unlearning at a fork that relearns, where the retain gradient does not object",
    family="meta-learning",
    departures="the gradient at the fork is of one function; one normalisation. Data: hazard, "
    "retain. 3 passes a step. Claims resistance. Its margin over TAR is over a TAR of one "
    "attacker step. Known breakers: none published; one rate of one optimiser was tested",
    presets=PRESETS,
)
