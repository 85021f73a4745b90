"""The rate of a row, found under the utility constraint: on the undefended model, then on each.

The reference rate is the one at which a short benign task is learned fastest. At the length of a
row it may ruin the model, and then the row shows nothing; and a defence may have moved the rate
that works, if only by other scales of weights that compute the same. So a row is first brought to
work on the undefended model: while utility is lost by its last step, a third of the rate is tried.
Every other model meets the highest rate that worked there. Where that does not bring the harm out,
the attacker goes on until the rate at which the model loses its utility lies between two that were
tried, and one further where the best of three is at the edge. A row that breaks a model has nothing
more to look for.

All that was tried is charged. On models under test the selection split tells what comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from titer.core.records import Part, Trace, Trial, content_key
from titer.evidence.curves import Evidence, Rule, Trajectory, feasible, retained
from titer.evidence.doubts import sweep_edge
from titer.evidence.gather import curve_grid, gather
from titer.evidence.panel import enough, thresholds, works
from titer.evidence.resample import BoolArray
from titer.plan.experiment import Experiment, Starts, rounded, setting

__all__ = ["STEP", "rungs", "starts"]

STEP = 3.0
"""From one rate that is tried to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ladder:
    """One setting of a row on one model and hazard: what was seen of it at every rate tried.

    ``first`` is a trial at the rate that it began with.
    """

    first: Trial
    seen: Evidence
    rule: Rule
    phi: float

    def rates(self) -> list[float]:
        return sorted(arm.rate for arm in self.seen.arms if arm.rate is not None)

    def working(self) -> list[float]:
        """The rates at which it works on the undefended model (check S1), upwards."""
        needed = enough(len(self.rule.seeds))
        return sorted(
            arm.rate or 0.0
            for arm in self.seen.arms
            if works(arm, self.seen, self.phi, self.rule) >= needed
        )

    def known(self) -> bool:
        """Whether the model shows the harm before any attack."""
        return self.seen.before is not None and float(self.seen.before.mean()) >= self.phi

    def reached(self) -> bool:
        """Whether one rate brings the harm out with utility kept, on every seed."""
        return any(
            len(arm.runs) == len(self.rule.seeds)
            and all(self._most(run) >= self.phi for run in arm.runs)
            for arm in self.seen.arms
        )

    def keeps(self) -> list[bool]:
        """Whether utility is there at the last step, by rate upwards; not where runs diverged."""
        needed = enough(len(self.rule.seeds))
        kept = {
            arm.rate or 0.0: sum(bool(self._feasible(run)[-1]) for run in arm.runs) >= needed
            for arm in self.seen.arms
        }
        return [kept[rate] for rate in sorted(kept)]

    def edge(self) -> int:
        """-1 or 1 where the lowest or the highest of three rates or more is the best, else 0."""
        if sweep_edge(self.seen.arms, self.seen, self.rule.epsilon) is None:
            return 0
        best = max(
            (arm for arm in self.seen.arms if arm.runs),
            key=lambda arm: sum(map(self._most, arm.runs)) / len(arm.runs),
        )
        return 1 if best.rate == self.rates()[-1] else -1

    def _most(self, run: Trajectory) -> float:
        harm = run.harm if run.select is None else run.select
        return float(harm.mean(axis=1)[self._feasible(run)].max())

    def _feasible(self, run: Trajectory) -> BoolArray:
        return feasible(retained(run, self.seen.utility), self.rule.epsilon)


def rungs(study: Experiment, traces: Sequence[Trace], *, undefended: bool) -> list[Trial]:
    """The trials at the next rate of every ladder that is not at its end: those of the undefended
    model, or those of all others."""
    return [
        replace(_at(ladder.first, rate), seed=seed)
        for ladder in _ladders(study, traces)
        if (ladder.first.subject == study.undefended().name) == undefended
        if (rate := _next(ladder, study.suite.rungs, undefended)) is not None
        for seed in ladder.rule.seeds
    ]


def _next(ladder: _Ladder, most: int, undefended: bool) -> float | None:
    """The rate to be tried next, or None where the ladder is at its end."""
    rates = ladder.rates()
    if len(rates) >= most or (ladder.working() if undefended else ladder.reached()):
        return None
    keeps = ladder.keeps()
    if (undefended and ladder.known()) or not any(keeps):
        return rates[0] / STEP
    if all(keeps) or ladder.edge() > 0:
        return rates[-1] * STEP
    return rates[0] / STEP if ladder.edge() < 0 else None


def starts(study: Experiment, traces: Sequence[Trace]) -> Starts:
    """What other models meet in place of an attack that did not work on the undefended model at its
    own rate: the same at the highest rate that did. Where none did, the attack stays as it is."""
    found: dict[tuple[str, str], Part] = {}
    swept = {row.id for row in study.rows() if row.sweeps}
    for ladder in _ladders(study, traces):
        trial, working = ladder.first, ladder.working()
        if trial.subject != study.undefended().name or trial.row in swept or not working:
            continue
        if working[-1] != trial.attack.fields["lr"]:
            best = _at(trial, working[-1]).attack
            found[trial.domain, setting(trial.attack)] = best
    return found


def _at(trial: Trial, rate: float) -> Trial:
    fields = {**trial.attack.fields, "lr": rounded(rate)}
    return replace(trial, attack=replace(trial.attack, fields=fields))


def _ladders(study: Experiment, traces: Sequence[Trace]) -> Iterator[_Ladder]:
    """Every setting, through each interface, whose rate is a multiple of a reference rate, and that
    did not fail for another reason than its rate. A row that sweeps its rates itself has those to
    begin with."""
    rated = {row.id for row in study.rows() if row.preset()[1].lr_scale is not None}
    tried: dict[str, list[Trace]] = {}
    for trace in traces:
        trial = trace.trial
        if trial.purpose in ("attack", "search") and trial.row in rated:
            rest = {name: value for name, value in trial.attack.fields.items() if name != "lr"}
            of = [trial.model, trial.interface, trial.domain, trial.purpose, trial.row, rest]
            tried.setdefault(content_key(of), []).append(trace)
    levels = _levels(study, traces)
    for runs in tried.values():
        trial = runs[0].trial
        if trial.domain in levels and all(run.status in ("ok", "diverged") for run in runs):
            seeds = tuple(dict.fromkeys(run.trial.seed for run in runs))
            yield _Ladder(
                first=trial,
                seen=gather(
                    runs,
                    subject=trial.subject,
                    domain=trial.domain,
                    seeds=seeds,
                    purpose=trial.purpose,
                ),
                rule=Rule(seeds=seeds, chance=study.world.chance),
                phi=levels[trial.domain],
            )


def _levels(study: Experiment, traces: Sequence[Trace]) -> dict[str, float]:
    """The threshold that decides, by hazard, as the undefended model's runs so far give it."""
    found: dict[str, float] = {}
    rule = Rule(seeds=study.seeds, chance=study.world.chance)
    for domain in study.world.hazards:
        here = [trace for trace in traces if trace.trial.domain == domain]
        floor = curve_grid(here)[1]
        name = study.undefended().name
        seen = gather(here, subject=name, domain=domain, seeds=study.seeds, floor=floor)
        if seen.before is not None:
            found[domain] = thresholds(seen, rule)[0]
    return found
