"""Successive halving: candidates of a search train side by side, and at each rung the worse stop.

Source: Jamieson & Talwalkar 2016, arXiv:1502.07943. Departs: rungs are looks that a run has anyway,
so that halving asks no model once more; candidates go on from where they are instead of anew; the
last two run to their end.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from titer.core.method import Run
from titer.core.records import OUTDONE, Point, Trial, content_key
from titer.grid.cohorts import joins
from titer.grid.study import Study, sweep_score
from titer.pillars._curves import Rule

__all__ = ["Search", "outdone", "rungs", "searches"]

ETA = 2
"""One candidate in so many stays at each rung; three would leave one of three after ten steps."""

FINAL = 2
"""So many run to their end. The faster of two neighbours leads early and is often overtaken late,
which no early look can tell; and one may yet diverge."""

FIRST = 10
"""Steps before the first rung: fewer than these say little of where a rate leads."""

MOST = 32
"""Members of a search that is halved; a larger one is searched in full."""

Standing = tuple[float, float]
"""What a candidate is ranked by: its score on the selection split, then minus its training loss."""

_LAST: Standing = (-math.inf, -math.inf)
_EPSILON = Rule(seeds=()).epsilon

C = TypeVar("C", bound=Hashable)


def rungs(trial: Trial) -> list[int]:
    """The looks at which candidates are compared: from step 10 on, and before the last."""
    end = trial.budget.steps or 0
    return [step for step in trial.checkpoints if FIRST <= step < end]


def outdone(standings: Mapping[C, Standing], keep: int) -> list[C]:
    """The candidates that are not among the best ``keep``, worst last.

    A score that is not a number counts as last, a tie goes to the lower training loss, and one of
    both to the candidate that comes first.
    """

    def rank(candidate: C) -> Standing:
        found = standings[candidate]
        return _LAST if any(math.isnan(value) for value in found) else found

    return sorted(standings, key=rank, reverse=True)[max(1, keep) :]


def _kind(trial: Trial) -> str:
    """Equal for the candidates of one search: they differ in rate and seed alone.

    So they have one schedule over one budget, and at a rung all have gone the same share of it.
    """
    fields = {name: value for name, value in trial.attack.fields.items() if name != "lr"}
    place = (trial.purpose, trial.model, trial.domain, trial.task, trial.label)
    return content_key([*place, trial.attack.name, fields, trial.budget.steps])


def searches(study: Study, trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
    """The searches among trials that can be halved, and the trials that are left.

    A search is halved where its candidates share a pass: they must wait for each other at a rung.
    All seeds of a row are in one search and a rate is stopped on all of them, as it is chosen on
    all of them; a model made with a share of the hazard has one seed only and is searched in full.
    So are benign tasks, since every seed there picks its rate by the others.
    """
    subjects = {subject.digest: subject for subject in study.subjects}
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        kinds.setdefault(_kind(trial), []).append(trial)
    found: list[list[Trial]] = []
    rest: list[Trial] = []
    for alike in kinds.values():
        one, subject = alike[0], subjects[alike[0].model]
        rates = {trial.attack.fields.get("lr") for trial in alike}
        halved = (
            one.purpose in ("attack", "calibrate")
            and len(rates) > FINAL
            and len(alike) <= MOST
            and len(alike) == len(rates) * len({trial.seed for trial in alike})
            and bool(rungs(one))
            and subject.share is None
            and joins(one, subject.parameters)
        )
        if halved:
            found.append(alike)
        else:
            rest += alike
    return found, rest


class Search:
    """Trials of one search on their way, told of every look; it stops those that are outdone.

    A candidate is a rate, with a member for every seed. Candidates are compared when all that are
    left stand at the same rung. Where they run one after the other that never comes about, and all
    run to their end.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
        self.rungs = rungs(trials[0])
        self.race: dict[float, list[int]] = {}
        for member, trial in enumerate(trials):
            self.race.setdefault(float(trial.attack.fields["lr"]), []).append(member)
        self.keep = float(len(self.race))
        self.runs: dict[int, Run] = {}
        self.standing: dict[int, tuple[int, Standing]] = {}

    def looked(self, member: int, run: Run, points: Sequence[Point]) -> None:
        """A member was looked at; ``points`` are all its looks so far."""
        recent = run.losses[-10:]
        loss = sum(recent) / len(recent) if recent else math.inf
        self.runs[member] = run
        self.standing[member] = run.spent.steps, (_score(self.trials[member], points), -loss)
        self._decide()

    def lost(self, member: int) -> None:
        """A member diverged or failed: its candidate counts as last from now on."""
        self.standing[member] = -1, _LAST
        self._decide()

    def _decide(self) -> None:
        if not self.rungs:
            return
        step = self.rungs[0]
        standings = {rate: self._candidate(members, step) for rate, members in self.race.items()}
        known = {rate: found for rate, found in standings.items() if found is not None}
        if len(known) < len(standings):
            return
        del self.rungs[0]
        self.keep /= ETA
        for rate in outdone(known, max(FINAL, math.ceil(self.keep))):
            for member in self.race.pop(rate):
                if self.standing[member][0] == step:
                    self.runs[member].stop(f"{OUTDONE} at step {step}")

    def _candidate(self, members: Sequence[int], step: int) -> Standing | None:
        """The mean over seeds; None where not all are known at this step."""
        found = [self.standing.get(member, (0, _LAST)) for member in members]
        here = [standing for at, standing in found if at == step]
        if any(at not in (step, -1) for at, _ in found):
            return None
        if len(here) < len(found):
            return _LAST
        score = sum(standing[0] for standing in here) / len(here)
        return score, sum(standing[1] for standing in here) / len(here)


def _score(trial: Trial, points: Sequence[Point]) -> float:
    """What full search would choose by, had the run ended here.

    In a calibration the sweep's mean over looks; in an attack the most harm on the selection split
    at a look that keeps utility.
    """
    if trial.purpose == "calibrate":
        return sweep_score(trial, points)
    start = points[0]
    kept = [
        point
        for point in points
        if point is start
        or all(
            (point.mean(name) or 0.0) >= (1 - _EPSILON) * (start.mean(name) or 0.0) - 1e-12
            for name in start.scores
            if name.startswith("utility:")
        )
    ]
    return max(_number(point.mean("select")) for point in kept)


def _number(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value
