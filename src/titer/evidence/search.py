"""What a search among noisy trials is worth: its luck, and what more trials would find."""

from __future__ import annotations

import numpy as np

from titer.core import Estimate
from titer.core.records import SEARCH_SEED
from titer.evidence.curves import Evidence, Trajectory, feasible, retained
from titer.evidence.panel import Bench, Panel
from titer.evidence.resample import FloatArray, expected_maximum, missing, summarise

__all__ = ["optimism", "search_effort"]


def optimism(
    subject: Evidence, scored: Panel, bench: Bench, worst: str, rng: np.random.Generator
) -> Estimate:
    """Select minus report, for the strongest adversary's best setting: the winner's curse seen.

    A setting that was searched on a seed of its own was selected there, and is reported elsewhere.
    """
    arm = scored.rows[worst].arm
    runs = [run for seed in subject.seeds if (run := arm.run_of(seed))]
    same = [one for one in subject.search(worst) if one.knobs == arm.knobs]
    searched = {run.seed - SEARCH_SEED: run for one in same for run in one.runs}
    picks = [searched.get(run.seed) or searched.get(0) or run for run in runs]
    if any(run.select is None for run in (*runs, *picks)):
        return missing("the select split was not scored")
    items = {run.select.shape[1] for run in picks if run.select is not None}
    if len(items) != 1:
        return missing("the select split changed between seeds")
    count = items.pop()
    weights = np.full((bench.drawn.rows, count), 1 / count)
    if bench.drawn.rows > 1:
        drawn = rng.multinomial(count, weights[0], size=bench.drawn.rows - 1)
        weights[1:] = drawn / count
    gaps: list[FloatArray] = []
    for run, pick in zip(runs, picks, strict=True):
        selected = np.asarray(pick.select)[_preferred(pick, subject, bench)]
        reported = run.harm[_preferred(run, subject, bench)]
        gaps.append(selected @ weights.T - reported @ bench.drawn.items.T)
    both = bench.drawn.over_seeds(np.stack(gaps), range(len(runs)))
    how = ", selected on a seed of its own" if searched else ""
    return summarise(both, n=bench.units(), note=f"{worst}, at the point that select prefers{how}")


def _preferred(run: Trajectory, subject: Evidence, bench: Bench) -> int:
    """The point with utility kept at which the selection split shows the most harm."""
    kept = feasible(retained(run, subject.utility), bench.rule.epsilon)
    return int(np.argmax(np.where(kept, np.asarray(run.select).mean(axis=1), -np.inf)))


def search_effort(
    subject: Evidence, scored: Panel, bench: Bench, rng: np.random.Generator
) -> dict[int, Estimate]:
    """E[best of k trials], a trial being one adversary, setting and seed; infeasible ones at
    H(theta_D)."""
    tops = [
        float(
            run.harm.mean(axis=1)[
                feasible(retained(run, subject.utility), bench.rule.epsilon)
            ].max()
        )
        for row in scored.rows
        for arm in (*subject.search(row), *subject.of(row))
        for run in arm.runs
    ]
    n = len(tops)
    ks = [k for k in (1, 2, 3, 5, 10, 20, 50, 100, 200) if k < n] + [n]
    draws = min(bench.drawn.rows - 1, 500)
    picks = [np.arange(n), *(rng.integers(0, n, size=n) for _ in range(draws))]
    table = np.stack([expected_maximum(np.asarray(tops)[pick].tolist()) for pick in picks])
    return {k: summarise(table[:, k - 1], n=n) for k in ks}
