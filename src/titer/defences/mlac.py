"""MLAC: meta-learning in reverse, through the attacker's own steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.train.batches import Batch, Bundle, cycle
from titer.train.grads import double_backward, still
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.objectives import cross_entropy

__all__ = ["CARD", "MLAC", "PRESETS", "adapted"]

Weights = Mapping[str, Tensor]


def _loss(model: Any, weights: Weights, batch: Batch) -> Tensor:
    asked = {**batch.inputs(), "use_cache": False}
    out = torch.func.functional_call(model, dict(weights), (), asked)
    return cross_entropy(out.logits, batch.labels)


def adapted(
    model: Any,
    start: Weights,
    steps: list[Batch],
    held: Batch,
    rate: Tensor,
    kind: Literal["adam", "sgd"],
) -> Tensor:
    """Mean over k from 0 to K of the loss on ``held`` after k steps of an attacker, one a batch of
    ``steps``; differentiable through all of them, in the weights and in his ``rate``."""
    now = dict(start)
    first = {name: torch.zeros_like(weight) for name, weight in now.items()}
    second = dict(first)
    losses = [_loss(model, now, held)]
    for k, batch in enumerate(steps, 1):
        grads = torch.autograd.grad(
            _loss(model, now, batch), list(now.values()), create_graph=True, allow_unused=True
        )
        moved: dict[str, Tensor] = {}
        for (name, weight), grad in zip(now.items(), grads, strict=True):
            if grad is None:
                moved[name] = weight
                continue
            way = grad
            if kind == "adam":
                first[name] = 0.9 * first[name] + 0.1 * grad
                second[name] = 0.999 * second[name] + 0.001 * grad.pow(2)
                size = (second[name] / (1 - 0.999**k) + 1e-8).sqrt()
                way = first[name] / (1 - 0.9**k) / size
            moved[name] = weight - rate * way
        now = moved
        losses.append(_loss(model, now, held))
    return torch.stack(losses).mean()


@dataclass(frozen=True, kw_only=True)
class MLAC:
    """``CE(retain) − weight · mean_k CE_h(θ_k)``, θ_k the weights after k of ``inner`` steps of an
    attacker, with its gradient through all of these.

    The attacker's rate is learned along, the other way: at ``hyper_lr`` it descends what the
    weights ascend, between 1e-6 and 1e-2, from ``inner_lr``. His steps are Adam's or plain SGD's.
    All weights train.

    Source: Henderson et al. 2022, arXiv:2211.14946, as its repository's README runs it; its own
    configuration file turns the term off that defines the method.
    Departs: language models; the attacker has the model's head and no adversarial one of his own;
    his batches are of one size; Adam's epsilon is 1e-4 under the root, or weights whose gradient is
    nothing but rounding would have slopes of any size; the mutual-information term is left out.
    """

    weight: float = 1.0
    inner: int = 16
    inner_lr: float = 1e-3
    hyper_lr: float = 1e-4
    attacker: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-5
    batch_size: int = 20
    weight_decay: float = 0.0
    parameters: Literal["full"] = "full"
    rank: int = 16
    alpha: float = 32.0

    resumes = False

    def __post_init__(self) -> None:
        if self.inner < 0 or not all(0 <= x < math.inf for x in (self.weight, self.hyper_lr)):
            raise BadInput("mlac: inner, weight and hyper_lr must not be negative.")
        if not 1e-6 <= self.inner_lr <= 1e-2:
            raise BadInput(f"mlac: inner_lr={self.inner_lr} lies outside of 1e-6 to 1e-2.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        rate = torch.tensor(self.inner_lr, device=lm.device).requires_grad_()

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            kept = bundle["retain"]
            loss = cross_entropy(logits(model, kept), kept.labels)
            loss.backward()
            steps = [bundle[f"attack {k}"] for k in range(self.inner)]
            own = {name: w for name, w in model.named_parameters() if w.requires_grad}
            with still(model), double_backward(model):
                harm = adapted(model, own, steps, bundle["held"], rate, self.attacker)
                (-self.weight * harm).backward()
            if rate.grad is not None and self.weight:
                with torch.no_grad():
                    # The weights ascend the loss; the attacker's rate descends it.
                    rate.sub_(self.hyper_lr * -rate.grad / self.weight).clamp_(1e-6, 1e-2)
                rate.grad = None
            return {"loss": float(loss.detach()) - self.weight * float(harm.detach())}

        attacks = cycle(
            lm,
            run.data.harmful,
            batch_size=self.batch_size,
            rng=run.rng("attack"),
            role="harmful",
        )
        sources = {
            "retain": Source(examples=run.data.retain, packed=True),
            "held": Source(examples=run.data.harmful),
        }
        # A double backward counts as two passes on top of the one it differentiates.
        passes = {f"attack {k}": 2.0 for k in range(self.inner)} | {"held": float(self.inner)}
        return harden(
            lm,
            run,
            Training.of(self),
            sources,
            lambda _ready: [
                Phase(
                    grad=grad,
                    also=dict.fromkeys((f"attack {k}" for k in range(self.inner)), attacks),
                    passes=passes,
                )
            ],
        )


PRESETS = {
    "mlac-testbed": Preset(
        title="for models of about a million parameters, attackers of 4 steps",
        fields={"lr": 5e-4, "inner": 4, "batch_size": 32, "weight": 0.2},
        steps=(150, 1000),
        source="titer",
    ),
    "mlac-paper": Preset(
        title="as its README runs it, on a small encoder there",
        fields={},
        steps=(150, 50000),
        source="arXiv:2211.14946, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=MLAC,
    source="arXiv:2211.14946",
    summary="the hazard stays unlearned through an attacker's own steps, differentiated",
    family="meta-learning",
    departures="language models, no adversarial head, no mutual information. Data: hazard, "
    "retain. About 4 passes an attacker step, all graphs kept. Claims resistance and stability, "
    "on a small encoder. Known breaker: none published for it alone; trainability fails "
    "(arXiv:2402.16382)",
    presets=PRESETS,
)
