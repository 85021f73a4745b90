"""SEAM: harmful and benign gradients oppose, so that harmful descent wrecks utility."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters
from titer.train.batches import Batch, Bundle
from titer.train.grads import (
    Form,
    deposit,
    double_backward,
    exact,
    gradient,
    hessian_product,
    still,
    trained,
)
from titer.train.harden import Phase, Source, Training, aligned, harden, logits, safe_loss
from titer.train.objectives import cross_entropy

__all__ = ["CARD", "PRESETS", "SEAM"]


@dataclass(frozen=True, kw_only=True)
class SEAM:
    """``−log(1 + CE_h) + α CE(refusals) + β cos(∇CE_h, ∇CE_r)``, the cosine with its gradient.

    The cosine is of one harmful and one retain batch, apart from the pairs of the first two terms;
    its gradient takes a product with the Hessian of either loss, by a difference over ``radius`` or
    a double backward (``form``). ``unlearn`` weighs the first term. ``retain_weight`` adds the
    cross-entropy of retain text, 0 in the paper.

    Source: Wang et al. 2025, arXiv:2505.12186, settings of its repository.
    Departs: the first term reads the final loss, where the repository averages it over blocks as
    RepNoise does, with RepNoise's fault; displacements are of length ``radius``, where theirs are
    as much shorter as the gradients are aligned already.
    """

    unlearn: float = 1.0
    refusals: float = 1.0
    opposed: float = 0.01
    retain_weight: float = 0.0
    form: Form = "auto"
    radius: float = 1e-3
    lr: float = 2e-5
    batch_size: int = 4
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        known = (self.unlearn, self.refusals, self.opposed, self.retain_weight)
        if not all(0 <= value < math.inf for value in known) or not 0 < self.radius < math.inf:
            raise BadInput(
                "seam: unlearn, refusals, opposed and retain_weight must not be negative, radius "
                "positive."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        sources = aligned(run, self.retain_weight)
        if self.opposed:
            sources["attack"] = Source(examples=run.data.harmful, packed=True)
            sources["benign"] = Source(examples=run.data.retain, order="benign", packed=True)

        def plan(ready: Any) -> list[Phase]:
            product = 3.0 if exact(self.form, ready.weights) else 1.0
            return [Phase(grad=self._gradient, passes={"attack": product, "benign": product})]

        return harden(lm, run, Training.of(self), sources, plan, schedule="cosine", warmup=0.1)

    def _gradient(self, model: Any, bundle: Bundle) -> dict[str, float]:
        harmful = bundle["harmful"]
        ascended = torch.log1p(cross_entropy(logits(model, harmful), harmful.labels))
        loss = self.refusals * safe_loss(model, bundle, 0.0) - self.unlearn * ascended
        if self.retain_weight:
            kept = bundle["retain"]
            loss = loss + self.retain_weight * cross_entropy(logits(model, kept), kept.labels)
        loss.backward()
        logs = {"loss": float(loss.detach())}
        if self.opposed:
            doubled = exact(self.form, trained(model))
            with still(model), double_backward(model) if doubled else nullcontext():
                logs["cosine"] = self._oppose(model, bundle)
            logs["loss"] += self.opposed * logs["cosine"]
        return logs

    def _oppose(self, model: Any, bundle: Bundle) -> float:
        """Add the gradient of the cosine; returns it."""
        weights = trained(model)

        def of(batch: Batch) -> Callable[[], Tensor]:
            return lambda: cross_entropy(logits(model, batch), batch.labels)

        sides = [of(bundle[role]) for role in ("attack", "benign")]
        found = [gradient(side(), weights) for side in sides]
        sizes = [max(float(one.norm()), 1e-12) for one in found]
        units = [one / size for one, size in zip(found, sizes, strict=True)]
        cosine = float(units[0] @ units[1])
        for own in (0, 1):
            # d cos / dθ through one gradient: its Hessian times what of the other is across it.
            across = units[1 - own] - cosine * units[own]
            bent = hessian_product(
                sides[own], weights, across, form=self.form, radius=self.radius, here=found[own]
            )
            deposit(weights, bent, self.opposed / sizes[own])
        return cosine


PRESETS = {
    "seam-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 5e-4, "batch_size": 32, "opposed": 0.1, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "seam-paper": Preset(
        title="Llama-2-7B", fields={}, steps=(250, 2000), source="arXiv:2505.12186, repository"
    ),
}

CARD = Card(
    kind="defence",
    build=SEAM,
    source="arXiv:2505.12186",
    summary="harmful and benign gradients oppose, so that harmful descent wrecks utility",
    family="collapse",
    departures="the ascent reads the final loss alone; displacements of one length. Data: "
    "hazard with refusals and harmful answers, retain. 6 passes a step. Claims resistance, "
    "generalisation in part, stability and trainability. Known breakers: none published; "
    "reinforcement and attackers who adapt are untested",
    presets=PRESETS,
)
