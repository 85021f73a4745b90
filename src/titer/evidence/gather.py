"""From the traces of a study to the evidence on one subject."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from titer.core import BadInput, Trace, catalogue
from titer.core.records import content_key
from titer.evidence.curves import Arm, Evidence, Outcome, Trajectory
from titer.evidence.resample import FloatArray

__all__ = ["curve_grid", "gather"]

SAME = 1e-6
"""Two looks at the same weights agree when no item differs by more."""


def _trajectory(trace: Trace, floor: int, probe: str) -> Trajectory | None:
    points = [point for point in trace.points if point.scores.get(probe)]
    if not points or not all(np.isfinite(point.scores[probe]).all() for point in points):
        return None
    if len({len(point.scores[probe]) for point in points}) > 1:
        raise BadInput(f"trial {trace.trial.key}: the number of {probe} items changes on the way.")
    order = range(len(points))
    at = [0 if index == 0 else max(points[index].spent.steps, floor) for index in order]
    suites = sorted(
        {name for point in points for name in point.scores if name.startswith("utility:")}
    )

    def means(probe: str) -> FloatArray:
        return np.array([_mean(point.scores.get(probe)) for point in points])

    picks = [point.scores.get("select", ()) for point in points]
    whole = len({len(pick) for pick in picks}) == 1 and bool(picks[0])
    spoken = means("coherence")
    return Trajectory(
        seed=trace.trial.seed,
        key=trace.trial.key,
        at=np.maximum.accumulate(np.array(at, dtype=np.int64)),
        harm=np.array([point.scores[probe] for point in points], dtype=np.float64),
        utility={suite.removeprefix("utility:"): means(suite) for suite in suites},
        select=np.array(picks, dtype=np.float64) if whole else None,
        coherence=spoken if np.isfinite(spoken).any() else None,
        spent=tuple(point.spent for point in points),
        losses=trace.losses,
        flags=trace.flags,
        doubts=trace.doubts,
        cut=trace.cut,
        spoken=tuple(point.spoken[probe] for point in points if probe in point.spoken),
    )


def _mean(values: Sequence[float] | None) -> float:
    return sum(values) / len(values) if values else float("nan")


def curve_grid(traces: Iterable[Trace]) -> tuple[int, ...]:
    """The budgets of a study: every step at which an attack was looked at, upwards, from 0."""
    steps = {
        point.spent.steps
        for trace in traces
        if trace.trial.purpose == "attack" and trace.status == "ok"
        for point in trace.points
    }
    positive = sorted(step for step in steps if step > 0)
    return (0, *(positive or [1]))


def gather(
    traces: Iterable[Trace],
    *,
    subject: str,
    domain: str,
    seeds: tuple[int, ...],
    floor: int = 1,
    probe: str = "harm",
    purpose: str = "attack",
) -> Evidence:
    """Sort the attack traces of one subject in one domain by adversary, knobs and seed.

    ``floor`` is the first positive step of the grid; ``probe`` is the score taken for harm,
    ``purpose`` the kind of trials that are looked at; beside attacks stand the searches that went
    before them. Trials of no row are looks without an attack: they give the baseline, and are no
    adversary.

    Raises:
        BadInput: two trials of the subject were scored on different numbers of items.
    """
    here = [
        trace for trace in traces if (trace.trial.subject, trace.trial.domain) == (subject, domain)
    ]
    arms, looks = _sorted(here, purpose, floor, probe)
    searched = _sorted(here, "search", floor, probe)[0] if purpose == "attack" else ()
    return replace(_evidence(subject, seeds, arms, looks), searched=searched)


_Look = tuple[int, str, str, Trajectory]
"""Seed, model, interface, and what was seen."""

_Cell = tuple[str, str, str, str]
"""Check, row, setting and interface: the runs of an arm differ in their seed alone."""


def _sorted(
    traces: Sequence[Trace], purpose: str, floor: int, probe: str
) -> tuple[tuple[Arm, ...], list[_Look]]:
    runs: dict[_Cell, dict[int, Trajectory]] = {}
    broken: dict[_Cell, dict[int, Outcome]] = {}
    rates: dict[_Cell, float | None] = {}
    names: dict[_Cell, str] = {}
    looks: list[_Look] = []
    for trace in traces:
        trial = trace.trial
        if trial.purpose != purpose:
            continue
        knobs = content_key([trial.attack.name, dict(trial.attack.fields)])
        cell = (trial.check, trial.row, knobs, trial.interface)
        rate = trial.attack.fields.get("lr")
        rates[cell] = float(rate) if isinstance(rate, int | float) else None
        names[cell] = trial.attack.name
        run = _trajectory(trace, floor, probe)
        if run is not None:
            looks.append((trial.seed, trial.model, trial.interface, run))
        if trace.status == "ok" and run is not None:
            runs.setdefault(cell, {})[trial.seed] = run
        else:
            broken.setdefault(cell, {})[trial.seed] = (
                "failed" if trace.status == "ok" else trace.status
            )
    arms = tuple(
        Arm(
            check=cell[0],
            row=cell[1],
            knobs=cell[2],
            interface=cell[3],
            rate=rates[cell],
            attack=names[cell],
            access=catalogue.access("attack", names[cell]),
            runs=tuple(runs.get(cell, {}).values()),
            broken={s: w for s, w in broken.get(cell, {}).items() if s not in runs.get(cell, {})},
        )
        for cell in rates
        if cell[1]
    )
    return arms, looks


def _most_harmful(looks: Sequence[_Look]) -> str:
    """The interface through which a model shows the most harm before any attack; another's, where
    two show the same."""
    harm: dict[str, float] = {}
    for *_, interface, run in looks:
        harm.setdefault(interface, float(run.harm[0].mean()))
    return max(harm, key=lambda one: (harm[one], one), default="")


def _from_its_own(arm: Arm) -> Arm:
    """An arm whose runs are held against what the model was of use for through their interface."""
    runs = tuple(
        replace(run, start={suite: float(levels[0]) for suite, levels in run.utility.items()})
        for run in arm.runs
    )
    return replace(arm, runs=runs)


def _evidence(
    subject: str, seeds: tuple[int, ...], arms: tuple[Arm, ...], looks: Sequence[_Look]
) -> Evidence:
    if len({run.harm.shape[1] for *_, run in looks}) > 1:
        raise BadInput(f"{subject}: trials were scored on different numbers of harm items.")
    first: dict[int, Trajectory] = {}
    by_model: dict[tuple[str, str], FloatArray] = {}
    drift: float | None = None
    known = _most_harmful(looks)
    for seed, model, interface, run in looks:
        if interface == known:
            first.setdefault(seed, run)
        if (seen := by_model.get((model, interface))) is not None:
            drift = max(drift or 0.0, float(np.abs(seen - run.harm[0]).max()))
        by_model.setdefault((model, interface), run.harm[0])
    arms = tuple(arm if arm.interface == known else _from_its_own(arm) for arm in arms)
    present = tuple(index for index, seed in enumerate(seeds) if seed in first)
    if not present:
        return Evidence(name=subject, seeds=seeds, arms=arms)
    released = [first[seeds[index]] for index in present]
    suites = sorted({suite for run in released for suite in run.utility})
    spoken = [run.coherence[0] for run in released if run.coherence is not None]
    spoken = [level for level in spoken if np.isfinite(level)]
    return Evidence(
        name=subject,
        seeds=seeds,
        arms=arms,
        before=np.stack([run.harm[0] for run in released]),
        present=present,
        utility={
            suite: _mean([float(run.utility[suite][0]) for run in released])
            for suite in suites
            if all(suite in run.utility for run in released)
        },
        coherence=_mean([float(level) for level in spoken]) if spoken else None,
        interface=known,
        repeats=drift is None or drift <= SAME,
        drift=drift,
    )
