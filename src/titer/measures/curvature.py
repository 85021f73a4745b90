"""How steep and how curved the loss is in the direction in which an attacker steps. P weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.measures._inside import (
    by_layer,
    first,
    mean_of,
    pieces,
    risk,
    risk_gradient,
    split_groups,
    unknown,
)
from titer.measures.task_vector import cosine
from titer.method import BadInput, Card, Case, Column, Estimate, Reading, Shown, Table
from titer.train.grads import (
    Form,
    displaced,
    double_backward,
    exact,
    gradient,
    hessian_product,
    still,
)

__all__ = ["CARD", "Curvature", "along"]


def along(
    model: Any, loss: Callable[[], Tensor], direction: Tensor, form: Form, radius: float
) -> float:
    """``uᵀ H u`` of a loss along a unit vector (P,) over all weights.

    As a difference it is that of the slopes ``radius`` to either side, off by a term of the order
    of ``radius``²; a one-sided one would carry the third derivative.
    """
    weights = list(model.parameters())
    if exact(form, weights):
        with still(model), double_backward(model):
            product = hessian_product(loss, weights, direction, form="exact")
        return float(product.double() @ direction.double())
    slopes: list[float] = []
    for sign in (1.0, -1.0):
        with still(model), displaced(weights, direction, sign * radius):
            slopes.append(float(gradient(loss(), weights).double() @ direction.double()))
    return (slopes[0] - slopes[1]) / (2.0 * radius)


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Gradient norm, slope and curvature along the attack direction.

    The attacker's first step on T goes along ``u = −∇R(T)/‖∇R(T)‖``, R being the mean negative
    log-likelihood of a token. ``‖∇R(T)‖`` says how fast T is learned; the slope ``<∇R(V), u>`` of
    the held-out facts how fast what is *hidden* comes back with it (below zero: it comes back), and
    ``uᵀHu`` how long that goes on; ``cos(∇R(V), ∇R(T))`` by layer where T and V share their way.
    Slope and curvature on benign text say what an ordinary fine-tune meets. Intervals are Student's
    over ``parts`` groups of held-out items that share no entity; T decides the direction and has
    none. ``form`` and ``radius`` say how the
    second derivative is taken, see :func:`along`.

    Source: Fan et al. 2025, arXiv:2502.05374 (smoothness and relearning).
    Departs: measured along the attacker's gradient, where the source looks at the worst direction.
    """

    form: Form = "exact"
    radius: float = 0.001
    parts: int = 6
    items: int = 192

    def __post_init__(self) -> None:
        if self.parts < 2 or self.items < self.parts or not self.radius > 0:
            raise BadInput(
                f"curvature: parts={self.parts} must be at least 2, items={self.items} at least as "
                f"many and radius={self.radius} positive."
            )

    def look(self, case: Case) -> list[Reading]:
        """Norm and curvature on T; slope, curvature and cosine on V; slope on unrelated text."""
        lm, model = case.lm, case.lm.model
        attacker = first(case.data.harmful, self.items, case.seed, "curvature T")
        held = first(case.hazard.report, self.items, case.seed, "curvature V")
        if not attacker or not held:
            return [unknown("‖∇R(T)‖", "the hazard has no attack or no report split")]
        steepest = risk_gradient(lm, attacker)
        norm = float(steepest.norm())
        readings = [_one("‖∇R(T)‖", norm, "nats a unit of weight")]
        if not norm > 0:
            return [*readings, unknown("slope on V", "the gradient on T is zero")]
        direction = steepest / -norm
        unit, curved = "nats a unit of weight", "nats a unit of weight²"
        own = along(model, risk(lm, attacker), direction, self.form, self.radius)
        readings.append(_one("uᵀHu on T", own, curved))
        groups = pieces(held, self.parts)
        gradients = [risk_gradient(lm, items) for items in groups]
        bends = [
            along(model, risk(lm, items), direction, self.form, self.radius) for items in groups
        ]
        slopes = [float(one @ direction) for one in gradients]
        readings += [
            Reading(what="slope on V", estimate=mean_of(slopes), unit=unit),
            Reading(what="uᵀHu on V", estimate=mean_of(bends), unit=curved),
        ]
        readings += self._shared(case, gradients, steepest)
        if benign := first(case.data.unrelated, self.items, case.seed, "curvature benign"):
            parts = [
                float(risk_gradient(lm, items) @ direction) for items in pieces(benign, self.parts)
            ]
            readings.append(
                Reading(what="slope on unrelated text", estimate=mean_of(parts), unit=unit)
            )
        return readings

    def _shared(self, case: Case, gradients: list[Tensor], attacker: Tensor) -> list[Reading]:
        """The cosine of held-out and attacker's gradients, whole and by layer."""
        model = case.lm.model
        layers = by_layer(model)
        theirs = split_groups(attacker, model, layers)
        ours = [split_groups(one, model, layers) for one in gradients]
        found: list[Reading] = []
        for place, there in theirs.items():
            values = [cosine(one[place], there) for one in ours]
            estimate = (
                mean_of(values)
                if all(value == value for value in values)
                else Estimate(value=None, note="a gradient is zero")
            )
            found.append(Reading(what="cos(∇R(V), ∇R(T))", place=place, estimate=estimate))
        return found


def _one(what: str, value: float, unit: str) -> Reading:
    return Reading(what=what, estimate=Estimate(value=value, n=1), unit=unit)


SHOWS = Shown(
    tables=(
        Table(
            title="The attacker's first step",
            place=3,
            about="u is minus the gradient on the attacker's facts T, of length 1; R is the mean "
            "negative log-likelihood of a token.",
            columns=(
                Column(
                    what="‖∇R(T)‖", title="Gradient norm", says="‖∇R(T)‖, nats a unit of weight"
                ),
                Column(
                    what="slope on V",
                    title="Slope on V",
                    says="below 0: hidden facts come back",
                    form="signed",
                ),
                Column(
                    what="slope on unrelated text",
                    title="Slope, unrelated",
                    says="benign text",
                    form="signed",
                ),
                Column(what="uᵀHu on T", title="Curvature on T", says="uᵀHu", form="signed"),
                Column(what="uᵀHu on V", title="Curvature on V", says="uᵀHu", form="signed"),
                Column(
                    what="cos(∇R(V), ∇R(T))",
                    title="cos(∇R(V), ∇R(T))",
                    says="shared way",
                    form="signed",
                ),
            ),
        ),
    ),
)

CARD = Card(
    kind="measure",
    build=Curvature,
    source="arXiv:2502.05374",
    summary="gradient norm, slope and curvature along the attacker's first step",
    family="inside",
    access="gradient",
    shows=SHOWS,
    departures="along the attacker's gradient, not the worst direction",
)
