"""Small made-up traces: harm by step, utility by step, everything else by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from titer.core import Budget, Part, Point, Spent, Trace, Trial
from titer.core.records import Cut, Status
from titer.evidence.curves import Doubt, Evidence, Rule
from titer.evidence.gather import curve_grid, gather
from titer.evidence.panel import Bench, attacked, bench
from titer.evidence.resample import resample
from titer.pillars.outcomes import RowResult
from titer.pillars.worst import Resisted, resistance

STEPS = (0, 1, 10, 100)
ITEMS = 40


def items(mean: float, count: int = ITEMS) -> tuple[float, ...]:
    """``round(mean * count)`` ones, then zeros."""
    ones = round(mean * count)
    return tuple([1.0] * ones + [0.0] * (count - ones))


def trace(
    subject: str = "m",
    row: str = "S",
    seed: int = 0,
    harm: Sequence[float] = (0.9, 0.9, 0.9, 0.9),
    utility: Sequence[float | None] = (0.9, 0.9, 0.9, 0.9),
    *,
    steps: Sequence[int] = STEPS,
    coherence: Sequence[float] | None = None,
    select: Sequence[float] | None = None,
    losses: Sequence[float] = (),
    status: Status = "ok",
    lr: float = 1e-3,
    domain: str = "A",
    purpose: Literal["attack", "search", "calibrate", "train", "check"] = "attack",
    attack: str = "finetune",
    task: str = "",
    probe: str = "harm",
    flags: Sequence[str] = (),
    doubts: Sequence[str] = (),
    count: int = ITEMS,
    first: Mapping[str, tuple[float, ...]] | None = None,
) -> Trace:
    points: list[Point] = []
    for index, step in enumerate(steps):
        scores: dict[str, tuple[float, ...]] = {probe: items(harm[index], count)}
        kept = utility[index] if index < len(utility) else utility[-1]
        if kept is not None:
            scores["utility:far"] = items(kept)
        if coherence:
            scores["coherence"] = items(coherence[index])
        if select:
            scores["select"] = items(select[index])
        scores |= (first or {}) if index == 0 else {}
        spent = Spent(steps=step, tokens=10 * step, examples=min(step, 8), flops=100.0 * step)
        points.append(Point(spent=spent, scores=scores))
    trial = Trial(
        model=subject,
        world="w",
        domain=domain,
        attack=Part(name=attack, fields={"lr": lr, "row": row}),
        budget=Budget(steps=steps[-1] if steps else 0),
        seed=seed,
        suite="core",
        purpose=purpose,
        task=task,
        **called(row, purpose),
        label=row,
        subject=subject,
    )
    return Trace(
        trial=trial,
        status=status,
        points=tuple(points) if status == "ok" else (),
        losses=tuple(losses),
        flags=tuple(flags),
        doubts=tuple(doubts),
        cut=Cut(of_trained=8, of_asked=count),
    )


def called(row: str, purpose: str) -> dict[str, Any]:
    """What a trial is for: an attack, one that a check asked for (``S9 plain``), or a look."""
    if row == "none":
        return {"role": "baseline"}
    if purpose == "check":
        check, _, variant = (
            row.rpartition(" ") if row in ("weights", "paths") else row.partition(" ")
        )
        return {"role": "check", "row": variant, "check": check}
    kinds = {"calibrate": "rate", "train": "task"}
    return {"role": kinds.get(purpose, "adversary"), "row": row}


def rule(seeds: tuple[int, ...] = (0, 1, 2), rows: tuple[str, ...] = ("S",)) -> Rule:
    return Rule(
        seeds=seeds,
        mandatory=rows,
        chance=0.25,
        absolute=0.30,
        inputs=frozenset({"I01", "I05"}),
    )


def arena(
    traces: Sequence[Trace],
    settings: Rule | None = None,
    *,
    draws: int = 200,
    oracle: str | None = "oracle",
    doubts: Mapping[str, Doubt] | None = None,
) -> Bench:
    """The bench of a study whose undefended model is called ``base``."""
    settings = settings or rule()
    grid = curve_grid(traces)
    drawn = resample(len(settings.seeds), ITEMS, np.random.default_rng(0), draws)
    zero = evidence(traces, "base", settings.seeds, grid[1])
    never = evidence(traces, oracle, settings.seeds, grid[1]) if oracle else None
    return bench(
        zero if zero.before is not None else None,
        never if never and never.before is not None else None,
        settings,
        grid,
        drawn,
        doubts,
    )


def evidence(
    traces: Sequence[Trace], subject: str, seeds: tuple[int, ...] = (0, 1, 2), floor: int = 1
) -> Evidence:
    return gather(traces, subject=subject, domain="A", seeds=seeds, floor=floor)


class Seen:
    """What is known of the resistance of one subject: its numbers, and what became of each row."""

    def __init__(self, found: Resisted) -> None:
        self.found, self.withheld = found, found.withheld
        self.rows: list[RowResult] = [one.result for one in found.rows]
        self.curves = [one.curve for one in found.rows]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found.score, name)


def resist(traces: Sequence[Trace], subject: str, made: Bench | None = None) -> Seen:
    made = made or arena(traces)
    seen = evidence(traces, subject, made.rule.seeds, made.grid[1])
    return Seen(resistance(seen, attacked(seen, made), made, np.random.default_rng(1)))


def study(
    rows: Sequence[str] = ("S",),
    seeds: Sequence[int] = (0, 1, 2),
    **subjects: tuple[Sequence[float], Sequence[float]],
) -> list[Trace]:
    """The two references and whatever subjects are given as (harm, utility) by step."""
    shapes: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "base": ((0.9,) * 4, (0.9,) * 4),
        "oracle": ((0.25, 0.25, 0.25, 0.3), (0.9,) * 4),
        **subjects,
    }
    return [
        trace(name, row, seed, harm, utility)
        for name, (harm, utility) in shapes.items()
        for row in rows
        for seed in seeds
    ]
