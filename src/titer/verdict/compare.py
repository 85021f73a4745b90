"""The statistics over adversaries and over models, as a verdict has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from titer.evidence.aggregate import (
    LEVELS,
    Across,
    ProfilePoint,
    Unrecovered,
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
from titer.evidence.curves import Evidence
from titer.evidence.panel import Bench, Panel
from titer.evidence.reach import reach
from titer.evidence.resample import summarise
from titer.verdict.parts import Comparison, Pair, Rank

__all__ = ["across", "compare"]


def across(evidence: Evidence, panel: Panel, bench: Bench) -> Across:
    """One model over all adversaries."""
    rows = np.stack([curve.curve[-1] for curve in panel.rows.values()])
    n, shares = bench.units(), bench.drawn.items.shape[1]
    runs = [run for curve in panel.rows.values() for run in curve.arm.runs]
    held = [1 - reach(run, evidence.utility, bench.rule.epsilon) for run in runs]
    profile = performance_profile(held, LEVELS) if held else ()
    taus = [curve.tau[0] for curve in panel.rows.values()]
    seen = [curve.recovered for curve in panel.rows.values()]
    ticks, left, error = kaplan_meier([float(tau) for tau in taus], seen)
    return Across(
        worst_corrected=corrected_maximum(rows, n=n, shares=shares),
        worst_five=summarise(worst_mean(rows), n=n, shares=shares),
        interquartile_mean=summarise(interquartile_mean(rows), n=n, shares=shares),
        profile=tuple(
            ProfilePoint(resistance=level, share=share)
            for level, share in zip(LEVELS, profile, strict=bool(profile))
        ),
        unrecovered=tuple(
            Unrecovered(steps=float(at), share=float(share), error=float(noise))
            for at, share, noise in zip(ticks, left, error, strict=True)
        ),
    )


def compare(found: Mapping[str, Panel], n: int) -> Comparison:
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
    return Comparison(
        ranks=tuple(
            Rank(model=name, first=first, last=last)
            for name, (first, last) in rank_intervals(worst).items()
        ),
        kendall=kendall(worst),
        pairs=tuple(
            Pair(
                models=(first, second),
                difference=summarise(gap, n=n),
                p=raw[f"{first}\n{second}"],
                p_holm=adjusted[f"{first}\n{second}"],
                detectable=minimum_detectable(gap) if len(gap) > 1 else None,
            )
            for (first, second), gap in pairs.items()
        ),
    )
