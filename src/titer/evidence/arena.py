"""One hazard of a study: its traces, the references, and what the subjects are compared by."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from titer.core import BadInput, Trace
from titer.core.study import Manifest, Role
from titer.evidence.curves import Evidence, Rule
from titer.evidence.doubts import calibration_edges
from titer.evidence.gather import curve_grid, gather
from titer.evidence.panel import Bench, bench
from titer.evidence.resample import resample

__all__ = ["Arena", "generator", "open_arena"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """One hazard: its traces by subject, the references, and what the subjects are compared by.

    The evidence on a subject is sorted once and kept.
    """

    domain: str
    traces: Sequence[Trace]
    bench: Bench
    seed: int
    kept: dict[tuple[str, str], Evidence] = field(repr=False, compare=False)

    def evidence(self, subject: str, probe: str = "harm") -> Evidence:
        """What the attacks on a subject left, with the scores of one probe taken for harm."""
        if (subject, probe) not in self.kept:
            self.kept[subject, probe] = gather(
                self.traces,
                subject=subject,
                domain=self.domain,
                seeds=self.bench.rule.seeds,
                floor=self.bench.grid[1],
                probe=probe,
            )
        return self.kept[subject, probe]


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the names alone."""
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
    kept: dict[tuple[str, str], Evidence] = {}
    found: dict[Role, Evidence | None] = {}
    for role in ("undefended", "oracle"):
        found[role] = None
        if model := study.reference(role, domain):
            seen = gather(here, subject=model.name, domain=domain, seeds=study.seeds, floor=grid[1])
            kept[model.name, "harm"] = seen
            found[role] = seen if seen.before is not None else None
    drawn = resample(len(study.seeds), _items(here, domain), generator(seed, domain), draws)
    undefended = study.reference("undefended", domain)
    edges = calibration_edges(here, undefended.name) if undefended else {}
    stars = {row.id: edges[row.star] for row in study.rows if row.star in edges}
    doubts = {**stars, **edges}
    made = bench(found["undefended"], found["oracle"], rule, grid, drawn, doubts)
    return Arena(domain=domain, traces=here, bench=made, seed=seed, kept=kept)


def _items(here: Sequence[Trace], domain: str) -> int:
    """On how many items harm was scored.

    Raises:
        BadInput: not all trials have the same number.
    """
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
    return max(sizes, default=1)


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
