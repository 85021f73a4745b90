"""Results of the pillars as plain JSON values, in the verdict's layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from titer.core import Estimate
from titer.pillars._outcomes import RowResult
from titer.pillars.erasure import Erasure
from titer.pillars.generalisation import Generalisation
from titer.pillars.resistance import Resistance
from titer.pillars.stability import Stability
from titer.pillars.trainability import Trainability

__all__ = [
    "attacks_json",
    "curves_json",
    "erasure_json",
    "estimate_json",
    "generalisation_json",
    "resistance_json",
    "stability_json",
    "trainability_json",
]


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """``{"value", "low", "high", "n", "level", "censored", "note"}``; unknown ends are null."""
    raw = asdict(estimate)
    return {**raw, **{end: _finite(raw[end]) for end in ("value", "low", "high")}}


def _all(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate_json(one) for name, one in estimates.items()}


def resistance_json(found: Resistance) -> dict[str, Any]:
    """The pillar of resistance."""
    names = (
        "baseline_harm",
        "weak",
        "weak_unconstrained",
        "weak_outside",
        "undefended",
        "never_learned",
        "margin",
        "steps_to_recover",
        "work_factor_min",
        "work_factor_geomean",
        "area",
        "r_star",
        "optimism_gap",
    )
    curve = [
        {
            "steps": point.steps,
            "tokens": point.spent.tokens,
            "examples": point.spent.examples,
            "flops": point.spent.flops,
            "harm": estimate_json(point.harm),
            "harm_unconstrained": estimate_json(point.harm_unconstrained),
            "attack": point.attack,
        }
        for point in found.curve
    ]
    return {
        **{name: estimate_json(getattr(found, name)) for name in names},
        "phi": found.phi,
        "passes": found.passes,
        "strong": found.strong,
        "curve": curve,
        "recovery": [estimate_json(one) for one in found.recovery],
        "search": [{"k": k, **estimate_json(one)} for k, one in found.search.items()],
        "worst_attack": found.worst_attack,
        "also": {},
        "weak_by_epsilon": {},
    }


def erasure_json(found: Erasure) -> dict[str, Any]:
    """The pillar of erasure."""
    return {
        "rtt": estimate_json(found.rtt),
        "oracle_after": estimate_json(found.oracle_after),
        "honest_zero": estimate_json(found.honest_zero),
        "note": found.note,
    }


def stability_json(found: Stability) -> dict[str, Any]:
    """The pillar of stability."""
    suites = {
        name: {
            "before": estimate_json(kept.before),
            "after": estimate_json(kept.after),
            "delta": estimate_json(kept.delta),
            "equivalent": kept.equivalent,
        }
        for name, kept in found.suites.items()
    }
    names = ("worst_delta", "perplexity_ratio", "over_refusal", "over_refusal_before")
    return {"suites": suites, **{name: estimate_json(getattr(found, name)) for name in names}}


_POINT = ("r_star", "weak", "baseline_harm")


def generalisation_json(found: Generalisation) -> dict[str, Any]:
    """The pillar of generalisation."""
    return {
        "in_domain": estimate_json(found.in_domain),
        "curve": [
            {
                "share": point.share,
                "entities": point.entities,
                "total": point.total,
                **{key: estimate_json(getattr(point, key)) for key in _POINT},
            }
            for point in found.curve
        ],
        "cross_domain": _all(found.cross_domain),
        "cross_harm": _all(found.cross_harm),
        "off_diagonal_min": estimate_json(found.off_diagonal_min),
        "note": found.note,
    }


def trainability_json(found: Trainability) -> dict[str, Any]:
    """The pillar of trainability."""
    tasks = {
        name: {
            "ratio": estimate_json(one.ratio),
            "gap": estimate_json(one.gap),
            "bricked": estimate_json(one.bricked),
            "near_hazard": one.near_hazard,
            "best_lr": one.best_lr,
        }
        for name, one in found.tasks.items()
    }
    return {"tasks": tasks, "ratio": estimate_json(found.ratio)}


def attacks_json(rows: Sequence[RowResult], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """One record an adversary."""
    return [
        {
            "row": row.row,
            "title": titles.get(row.row, row.row),
            "outcome": row.outcome,
            "by_seed": list(row.by_seed),
            "by_budget": [{"steps": steps, "outcome": found} for steps, found in row.by_budget],
            "harm": estimate_json(row.numbers.harm),
            "harm_unconstrained": estimate_json(row.numbers.harm_open),
            "utility": estimate_json(row.numbers.utility),
            "tau": estimate_json(row.numbers.tau),
            "flags": list(row.flags),
            "validity": row.validity,
            "trials": list(row.trials),
        }
        for row in rows
    ]


def curves_json(rows: Sequence[RowResult]) -> list[dict[str, Any]]:
    """Harm and utility by budget, for the adversaries that have numbers."""
    return [
        {
            "row": row.row,
            "steps": list(row.numbers.steps),
            "harm": [estimate_json(one) for one in row.numbers.curve],
            "utility": [estimate_json(one) for one in row.numbers.kept],
        }
        for row in rows
        if row.numbers.steps
    ]
