"""Which layers a defence used to raise the risk of hidden facts, and at what cost to the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.core.data import Example
from titer.measures._inside import (
    by_layer,
    first,
    mean_of,
    pieces,
    risk_gradient,
    split_groups,
    unknown,
)
from titer.measures.task_vector import task_vector
from titer.method import LM, BadInput, Card, Case, Column, Reading, Shown, Table
from titer.train.grads import displaced

__all__ = ["CARD", "GEffect", "g_effects"]


def g_effects(
    lm: LM, base: LM, groups: Sequence[Sequence[Example]], points: int
) -> list[dict[str, float]]:
    """The G-effect of the way from ``base`` to ``lm`` on each group of items, by layer.

    ``−∫ <∇R(D; θ(s)), θ_u − θ₀> ds`` over the straight line θ(s), in nats a token, by the midpoint
    rule with ``points`` points; the layers add up to ``R(D; θ₀) − R(D; θ_u)``, up to the rule's
    error. The sum of all layers stands under the empty name.
    """
    moved = task_vector(lm, base)
    walker = base.clone()
    weights = list(walker.model.parameters())
    totals = [torch.zeros_like(moved) for _ in groups]
    for point in range(points):
        with displaced(weights, moved, (point + 0.5) / points):
            for total, items in zip(totals, groups, strict=True):
                total += risk_gradient(walker, items) / points
    layers = by_layer(lm.model)
    return [
        {
            name: -_total(part)
            for name, part in split_groups(total * moved, lm.model, layers).items()
        }
        for total in totals
    ]


def _total(values: Tensor) -> float:
    return float(values.double().sum())


@dataclass(frozen=True, kw_only=True)
class GEffect:
    """The inner product of risk gradient and defence, layer by layer.

    For one step of an objective L the G-effect on data D is ``<∇R(D), ∇L>``: the step lowers the
    risk R (mean negative log-likelihood of a token) by the rate times that. Below zero on the
    hidden facts V the defence forgets; below zero on retained text it does harm. A finished defence
    of any kind has no objective left to differentiate, but it has a displacement; so the steps are
    taken along the straight line from the undefended model. Intervals are Student's over ``parts``
    groups of items that share no entity; ``items`` bounds V and the retained text.

    Source: Wang et al. 2025, arXiv:2502.19301.
    Departs: along the straight line and not the training's own path, in ``points`` steps, so that
    layers add up to the change of risk.
    """

    points: int = 8
    parts: int = 6
    items: int = 192

    def __post_init__(self) -> None:
        if self.points < 1 or self.parts < 2 or self.items < self.parts:
            raise BadInput(
                f"g_effect: points={self.points} must be at least 1, parts={self.parts} at least 2 "
                f"and items={self.items} at least as many as parts."
            )

    def look(self, case: Case) -> list[Reading]:
        """``hidden`` (V) and ``retained``, for the whole model and for each layer."""
        if not case.derived:
            return [unknown("G-effect, hidden", "not made from the undefended model")]
        try:
            moved = bool(task_vector(case.lm, case.base).any())
        except BadInput as error:
            return [unknown("G-effect, hidden", str(error))]
        if not moved:
            return [unknown("G-effect, hidden", "same weights as the undefended model")]
        found: list[Reading] = []
        for what, items in (("hidden", case.hazard.report), ("retained", case.data.retain)):
            if not items:
                found.append(unknown(f"G-effect, {what}", "there is no such text"))
                continue
            groups = pieces(first(items, self.items, case.seed, f"g {what}"), self.parts)
            effects = g_effects(case.lm, case.base, groups, self.points)
            found += [
                Reading(
                    what=f"G-effect, {what}",
                    place=place,
                    estimate=mean_of([effect[place] for effect in effects]),
                    unit="nats a token",
                )
                for place in effects[0]
            ]
        return found


SHOWS = Shown(
    tables=tuple(
        Table(
            title=title,
            place=place,
            about=f"G-effect along the defence. {about}",
            columns=(
                Column(what=f"G-effect, {what}", title="Whole", says="nats a token", form="signed"),
            ),
            by_place=True,
        )
        for place, what, title, about in (
            (4, "hidden", "Where the defence forgot", "Below 0: the risk of hidden facts V rose."),
            (5, "retained", "What it cost elsewhere", "Below 0: the risk of retained text rose."),
        )
    ),
)

CARD = Card(
    kind="measure",
    build=GEffect,
    source="arXiv:2502.19301",
    summary="which layers raised the risk of hidden facts, and of retained text",
    family="inside",
    access="gradient",
    shows=SHOWS,
    departures="along the straight line from the undefended model, not the training's own path",
)
