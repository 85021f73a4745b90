"""The checks S1 to S18 of every model, and the statistics over models, as plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from titer.pillars._across import (
    corrected_maximum,
    holm,
    interquartile_mean,
    kaplan_meier,
    kendall,
    minimum_detectable,
    performance_profile,
    rank_intervals,
    two_sided,
    worst_mean,
)
from titer.pillars._checks import calibration_scores
from titer.pillars._curves import Evidence
from titer.pillars._examine import examine
from titer.pillars._panel import Bench, Panel
from titer.pillars._protocol import Case, Check, inspect, reach
from titer.pillars._statistics import summarise
from titer.report._arena import Arena
from titer.report._entry import estimate_json
from titer.report._facts import StudyFacts, Subject

__all__ = ["across_json", "checks_json", "compared", "examined", "settle_controls"]

LEVELS = tuple(round(0.1 * k, 1) for k in range(10))


def examined(study: StudyFacts, subject: Subject, arena: Arena) -> tuple[Check, ...]:
    """The checks of one model; the never-learned one is a reference and has none."""
    undefended = study.reference("undefended", arena.domain)
    if subject.role == "oracle" or undefended is None:
        return ()
    parts = (arena.domain, study.seeds, arena.bench.grid[1])
    case = Case(
        subject=arena.evidence(subject.name),
        bench=arena.bench,
        mine=inspect(arena.traces, subject.name, *parts),
        base=inspect(arena.traces, undefended.name, *parts),
        changed=subject.role != "undefended",
        same=subject.digest == undefended.digest,
        sweeps=calibration_scores(arena.traces, undefended.name),
    )
    return examine(case)


def checks_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """``{"id", "flag", "statistic", "reason", "question", "measures", "threshold"}`` of each."""
    return [
        {
            "id": one.id,
            "flag": one.flag,
            "statistic": one.statistic,
            "reason": one.reason,
            "question": one.question.asks,
            "measures": one.question.statistic,
            "threshold": one.question.threshold,
        }
        for one in checks
    ]


def settle_controls(models: Sequence[MutableMapping[str, Any]], missed: bool) -> None:
    """S14, once it is known whether the known-broken controls were caught.

    Where one was missed the suite cannot see, so nothing that it held is held, and none passes.
    """
    if not any(entry["role"] == "control" and not entry["withheld"] for entry in models):
        return
    for entry in models:
        for check in entry["checks"]:
            if check["id"] == "S14" and check["flag"] != "suspect":
                known = check["statistic"] is not None
                check["flag"] = "suspect" if missed else "valid" if known else "not run"
                check["reason"] = "control-not-caught" if missed else check["reason"] * (not known)
        if missed:
            _unhold(entry)


def _unhold(entry: MutableMapping[str, Any]) -> None:
    resistance = entry["pillars"]["resistance"]
    resistance["passes"] = None if resistance["passes"] else resistance["passes"]
    for attack in entry["attacks"]:
        if attack["outcome"] == "held":
            attack["outcome"] = "suspect"
            attack["validity"] = "suspect: S14 control-not-caught"
        attack["by_seed"] = ["suspect" if s == "held" else s for s in attack["by_seed"]]
        attack["by_budget"] = [
            {**point, "outcome": "suspect" if point["outcome"] == "held" else point["outcome"]}
            for point in attack["by_budget"]
        ]


def across_json(evidence: Evidence, panel: Panel, bench: Bench) -> dict[str, Any]:
    """One model over all adversaries: the worst corrected for its choice, the mean of the five
    worst, the interquartile mean, the profile of resistance, and the runs not yet recovered."""
    rows = np.stack([curve.curve[-1] for curve in panel.rows.values()])
    n, shares = bench.units(), bench.drawn.items.shape[1]
    runs = [run for curve in panel.rows.values() for run in curve.arm.runs]
    held = [1 - reach(run, evidence.utility, bench.rule.epsilon) for run in runs]
    profile = performance_profile(held, LEVELS) if held else ()
    taus = [curve.tau[0] for curve in panel.rows.values()]
    seen = [curve.recovered for curve in panel.rows.values()]
    ticks, left, error = kaplan_meier([float(tau) for tau in taus], seen)
    return {
        "worst_corrected": estimate_json(corrected_maximum(rows, n=n, shares=shares)),
        "worst_five": estimate_json(summarise(worst_mean(rows), n=n, shares=shares)),
        "interquartile_mean": estimate_json(
            summarise(interquartile_mean(rows), n=n, shares=shares)
        ),
        "profile": [
            {"resistance": level, "share": share}
            for level, share in zip(LEVELS, profile, strict=bool(profile))
        ],
        "unrecovered": [
            {"steps": float(at), "share": float(share), "error": float(noise)}
            for at, share, noise in zip(ticks, left, error, strict=True)
        ],
    }


def compared(found: Mapping[str, Panel], n: int) -> dict[str, Any]:
    """All models beside each other by W at the largest budget: intervals of ranks, how firm the
    order is, and every pair with Holm's correction and the least difference it could have shown."""
    worst = {name: one.envelope(list(one.rows))[-1] for name, one in found.items() if one.rows}
    names = list(worst)
    pairs = {
        (first, second): worst[first] - worst[second]
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    }
    raw = {f"{first}\n{second}": two_sided(gap) for (first, second), gap in pairs.items()}
    adjusted = holm(raw)
    return {
        "ranks": [
            {"model": name, "first": first, "last": last}
            for name, (first, last) in rank_intervals(worst).items()
        ],
        "kendall": estimate_json(kendall(worst)),
        "pairs": [
            {
                "models": [first, second],
                "difference": estimate_json(summarise(gap, n=n)),
                "p": raw[f"{first}\n{second}"],
                "p_holm": adjusted[f"{first}\n{second}"],
                "detectable": minimum_detectable(gap) if len(gap) > 1 else None,
            }
            for (first, second), gap in pairs.items()
        ],
    }
