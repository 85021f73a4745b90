"""Unlearning that is flat in the weights: sharpness-aware, and two of its relatives."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Trainable
from titer.train.batches import Bundle
from titer.train.grads import (
    Form,
    deposit,
    displaced,
    double_backward,
    exact,
    gradient,
    hessian_product,
    still,
    trained,
)
from titer.train.unlearn import Phase, Terms, descend_terms, unlearner

__all__ = ["CARD", "PRESETS", "SAM"]

Variant = Literal["sam", "gradient_norm", "curvature"]


@dataclass(frozen=True, kw_only=True)
class SAM:
    """Keep the forget loss low around the weights, so that a small step does not relearn.

    ``sam`` takes the gradient of the forget term at ``θ + ρ ĝ``, ``ĝ`` its own direction, and that
    of the retain term at ``θ``. ``gradient_norm`` adds ``weight ‖∇ℓ_f‖`` and ``curvature``
    ``weight ‖∇ℓ_f(θ + ρ ĝ) − ∇ℓ_f(θ)‖² / ρ²`` with ``ĝ`` held constant, both with their real
    gradient (``form``; ``radius`` is the displacement of a difference). ``base`` is any unlearning
    defence; with ``rho`` or, for the other two, ``weight`` 0 the result is the base's to the bit.
    On half-precision weights a small ``rho`` is lost to rounding: train adapters, or take a larger
    one.

    Source: Fan et al. 2025, arXiv:2502.05374, ρ and the weights of NPO from its repository's script
    for Zephyr-7B (lr 5e-6, β 0.015, retain weight 2.25).
    Departs: in that repository neither penalty has a gradient, as norms go through ``.item()``.
    """

    base: Any = "npo"
    variant: Variant = "sam"
    rho: float = 0.01
    weight: float = 1.0
    form: Form = "auto"
    radius: float = 0.003
    accumulate: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", unlearner("sam", self.base))
        if not (0 <= self.rho < math.inf and 0 <= self.weight < math.inf):
            raise BadInput(f"sam: rho={self.rho} and weight={self.weight} must not be negative.")
        if self.variant == "curvature" and self.rho == 0:
            raise BadInput("sam: curvature is measured over a distance; give rho above 0.")
        if not 0 < self.radius < math.inf or self.accumulate < 1:
            raise BadInput("sam: radius and accumulate must be positive.")

    def __call__(self, lm: LM, run: Run) -> LM:
        terms: Terms = self.base.terms(lm, run)
        off = self.rho == 0 if self.variant == "sam" else self.weight == 0
        return descend_terms(
            self.base,
            lm,
            run,
            terms,
            phases=None if off else lambda ready: [self._phase(terms, ready)],
            accumulate=self.accumulate,
        )

    def _phase(self, terms: Terms, ready: Trainable) -> Phase:
        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            kept = terms.retain(model, bundle["retain"])
            kept.backward()
            if self.variant == "sam":
                value = self._sharp(terms, model, bundle)
            else:
                doubled = exact(self.form, ready.weights)
                with still(model), double_backward(model) if doubled else nullcontext():
                    value = self._penalised(terms, model, bundle)
            return {"loss": float(kept.detach()) + value}

        # A double backward counts as two passes on top of the one it differentiates.
        product = 3.0 if exact(self.form, ready.weights) else 1.0
        more = {"sam": 1.0, "gradient_norm": product, "curvature": 1.0 + 2.0 * product}
        calls = {"sam": 1.0, "gradient_norm": 1.0, "curvature": 3.0}
        asked = calls[self.variant] if "forget" in terms.frozen else 0.0
        return Phase(grad=grad, passes={"forget": more[self.variant]}, forwards={"forget": asked})

    def _sharp(self, terms: Terms, model: Any, bundle: Bundle) -> float:
        weights = trained(model)
        loss = terms.forget(model, bundle["forget"])
        here = gradient(loss, weights)
        with displaced(weights, here, self.rho / max(float(here.norm()), 1e-12)):
            there = gradient(terms.forget(model, bundle["forget"]), weights)
        deposit(weights, there)
        return float(loss.detach())

    def _penalised(self, terms: Terms, model: Any, bundle: Bundle) -> float:
        weights = trained(model)

        def forget() -> Any:
            return terms.forget(model, bundle["forget"])

        def curved(vector: Any, at: Any) -> Any:
            return hessian_product(
                forget, weights, vector, form=self.form, radius=self.radius, here=at
            )

        loss = forget()
        here = gradient(loss, weights)
        length = max(float(here.norm()), 1e-12)
        deposit(weights, here)
        if self.variant == "gradient_norm":
            deposit(weights, curved(here / length, here), self.weight)
            return float(loss.detach()) + self.weight * length
        with displaced(weights, here, self.rho / length):
            there = gradient(forget(), weights)
            bent = (there - here) / self.rho
            deposit(weights, curved(bent, there), 2.0 * self.weight / self.rho)
        deposit(weights, curved(bent, here), -2.0 * self.weight / self.rho)
        return float(loss.detach()) + self.weight * float(bent.pow(2).sum())


PRESETS = {
    "sam-testbed": Preset(
        title="NPO+SAM for models of about a million parameters",
        fields={"base": "npo-testbed", "rho": 0.3},
        steps=(250, 1000),
        source="titer",
    ),
    "sam-paper": Preset(
        title="NPO+SAM, Zephyr-7B",
        fields={
            "base": {
                "type": "NPO",
                "reduction": "batch",
                "beta": 0.015,
                "retain_weight": 2.25,
                "lr": 5e-6,
                "batch_size": 4,
            },
            "rho": 0.01,
        },
        steps=(250, 125),
        source="arXiv:2502.05374, repository",
    ),
    "sam-grad_diff-testbed": Preset(
        title="GradDiff+SAM for models of about a million parameters",
        fields={"base": "grad_diff-testbed", "rho": 0.1},
        steps=(150, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=SAM,
    source="arXiv:2502.05374",
    summary="forgetting that stays where a small step in the weights would undo it",
    family="unlearning",
    version=2,
    departures="the gradient-norm and curvature variants have a gradient",
    presets=PRESETS,
)
