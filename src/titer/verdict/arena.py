"""One hazard of a study: its traces, the references, and what the subjects are compared by."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from titer.core import BadInput, Trace
from titer.core.study import Manifest, Role
from titer.pillars._checks import calibration_edges
from titer.pillars._curves import Evidence, Rule
from titer.pillars._gather import curve_grid, gather
from titer.pillars._panel import Bench, attacked, bench
from titer.pillars._statistics import resample
from titer.pillars.generalisation import SharePoint, share_point
from titer.pillars.resistance import resistance

__all__ = ["Arena", "generator", "open_arena", "share_points"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """One hazard: its traces, the references, and what the subjects are compared by."""

    domain: str
    traces: Sequence[Trace]
    bench: Bench
    seed: int

    def evidence(self, subject: str, probe: str = "harm") -> Evidence:
        grid = self.bench.grid
        return gather(
            self.traces,
            subject=subject,
            domain=self.domain,
            seeds=self.bench.rule.seeds,
            floor=grid[1],
            probe=probe,
        )


def generator(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def open_arena(
    study: Manifest, traces: Sequence[Trace], domain: str, draws: int, seed: int
) -> Arena:
    """The evidence of one hazard, ready to be judged."""
    here = [trace for trace in traces if trace.trial.domain == domain]
    grid = curve_grid(here)
    rule = Rule(
        seeds=study.seeds,
        mandatory=_mandatory(study, here, domain),
        inputs=frozenset(row.id for row in study.rows if row.family == "input"),
        absolute=study.absolute,
        chance=study.chance,
        certifies=study.certifies,
    )
    found: dict[Role, Evidence | None] = {}
    for role in ("undefended", "oracle"):
        model = study.reference(role, domain)
        known = model and gather(
            here, subject=model.name, domain=domain, seeds=study.seeds, floor=grid[1]
        )
        found[role] = known if known and known.before is not None else None
    sizes = {
        len(point.scores["harm"])
        for trace in here
        if trace.trial.purpose == "attack"
        for point in trace.points
        if point.scores.get("harm")
    }
    if len(sizes) > 1:
        shown = ", ".join(map(str, sorted(sizes)))
        raise BadInput(f"hazard {domain}: trials were scored on {shown} harm items; want one set.")
    drawn = resample(len(study.seeds), max(sizes, default=1), generator(seed, domain), draws)
    undefended = study.reference("undefended", domain)
    edges = calibration_edges(here, undefended.name) if undefended else {}
    stars = {row.id: edges[row.star] for row in study.rows if row.star in edges}
    doubts = {**stars, **edges}
    made = bench(found["undefended"], found["oracle"], rule, grid, drawn, doubts)
    return Arena(domain=domain, traces=here, bench=made, seed=seed)


def _mandatory(study: Manifest, here: Sequence[Trace], domain: str) -> tuple[str, ...]:
    """The rows without which no score is shown.

    On the hazard that the models are about they are the suite's. A hazard that is only attacked
    across may be attacked with fewer rows: those that the undefended model faced there.
    """
    rows = tuple(row.id for row in study.rows if row.mandatory)
    if domain == study.domains[0]:
        return rows
    base = study.reference("undefended", domain)
    faced = {
        trace.trial.row
        for trace in here
        if base and (trace.trial.role, trace.trial.subject) == ("adversary", base.name)
    }
    return tuple(row for row in rows if row in faced)


def share_points(study: Manifest, subject: str, found: Arena) -> tuple[SharePoint, ...]:
    """What the subject's defence makes of less of the hazard, attacked as the subject is."""
    points: list[SharePoint] = []
    for name, part in study.shares_of(subject).items():
        evidence = found.evidence(name)
        panel = attacked(evidence, found.bench)
        rng = generator(found.seed, found.domain, name)
        resisted = resistance(evidence, panel, found.bench, rng)
        points.append(share_point(part.share, part.entities, part.total, resisted))
    return tuple(points)
