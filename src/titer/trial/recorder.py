"""What is seen of a run on its way: it asks at each checkpoint, judges, and keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from titer.core import codec
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import STOPPED, Enough, Point
from titer.trial.probes import Probe, Records, ask, ask_each, judge, spoken_in

__all__ = ["Recorder", "shows"]

_DIGITS = 1e-6
"""A level of harm is written with so many digits."""


class Recorder:
    """Takes the looks of a run: asks, judges, keeps, and ends it when there is ``enough``.

    ``end`` is the run's last step. ``known``, asked of the model before its first step, gives what
    it says where that is known already, None where it is not. ``passed`` is told of each look.
    """

    def __init__(
        self,
        asked: Sequence[Probe],
        end: int,
        known: Callable[[LM], Records | None] | None = None,
        enough: Enough | None = None,
        passed: Callable[[Run, Point], None] | None = None,
    ) -> None:
        self.asked, self.end, self.known, self.enough = asked, end, known, enough
        self.passed = passed
        self.points: list[Point] = []
        self.generations: list[dict[str, Any]] = []

    def __call__(self, lm: LM, run: Run) -> None:
        chosen = self.due(run)
        at_start = not self.points and run.spent.steps == 0
        records = self.known(lm) if at_start and self.known else None
        self.take(lm, run, chosen, ask(lm, chosen) if records is None else records)

    def many(
        self, lm: LM, runs: Sequence[Run], alone: Callable[[int], AbstractContextManager[LM]]
    ) -> bool:
        """The looks of several runs with the same questions; those that stacked models can be asked
        together, in one pass. See :meth:`Run.look_together`."""
        panel = [run.emit for run in runs]
        recorders = [other for other in panel if isinstance(other, Recorder)]
        chosen = self.due(runs[0])
        if (
            len(recorders) < len(runs)
            or not self.points
            or any(other.due(run) != chosen for other, run in zip(recorders, runs, strict=True))
        ):
            return False
        shared = ask_each(lm, [probe for probe in chosen if probe.together], len(runs))
        single = [probe for probe in chosen if not probe.together]
        for place, records in enumerate(shared):
            with alone(place) as one:
                records.update(ask(one, single))
        # Kept only now, so that a question that fails leaves no look half taken.
        for place, (other, run) in enumerate(zip(recorders, runs, strict=True)):
            with alone(place) as one:
                other.take(one, run, chosen, shared[place])
        return True

    def state(self) -> dict[str, Any]:
        """What was seen so far, as text."""
        seen = {"points": codec.to_json(self.points), "generations": self.generations}
        return {"seen": json.dumps(seen)}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        seen = json.loads(state["seen"])
        self.points[:] = [codec.from_json(Point, one, "point") for one in seen["points"]]
        self.generations[:] = seen["generations"]

    def due(self, run: Run) -> list[Probe]:
        """What is asked at this look."""
        first, last = not self.points, run.spent.steps >= self.end
        return [probe for probe in self.asked if probe.due(first=first, last=last)]

    def take(
        self,
        lm: LM,
        run: Run,
        chosen: Sequence[Probe],
        records: Records,
    ) -> None:
        """Judge what was said, and keep it."""
        spent, recent = run.spent, run.losses[-10:]
        logs = {"loss": sum(recent) / len(recent)} if recent else {}
        said = spoken_in(chosen, records)
        point = Point(spent=spent, scores=judge(chosen, records), logs=logs, spoken=said)
        if self.enough and 0 < spent.steps < self.end and shows(self.points, point, self.enough):
            run.stop(STOPPED)
            ends = [probe for probe in self.asked if probe.when == "ends"]
            last = ask(lm, ends)
            records = {**records, **last}
            point = replace(
                point,
                scores={**point.scores, **judge(ends, last)},
                spoken={**point.spoken, **spoken_in(ends, last)},
            )
        self.points.append(point)
        self.generations.append({"steps": spent.steps, "records": records})
        if self.passed:
            self.passed(run, point)


def shows(before: Sequence[Point], now: Point, level: Enough) -> bool:
    """Whether a look shows enough; ``before`` are the looks that came earlier, the first of them
    that of the model before the attack.

    A suite that was not looked at is not known to be kept.
    """
    harm = now.mean("harm")
    if not before or harm is None or not harm >= level.harm - _DIGITS:
        return False
    for probe, scores in before[0].scores.items():
        if probe.startswith("utility:") and scores:
            left = now.mean(probe)
            if left is None or not left >= level.kept * sum(scores) / len(scores):
                return False
    return True
