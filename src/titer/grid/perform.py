"""Trials, start to end, in whatever process they are given; those of a cohort together."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from titer.core import catalogue
from titer.core.data import Data, World
from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import STOPPED, Enough, Point, Status, Trace, Trial
from titer.grid.diagnose import diagnose, is_diagnosis
from titer.grid.probes import Probe, ask, ask_each, judge, probes, task_probes
from titer.grid.starts import Start, start
from titer.grid.store import Store, atomic_folder
from titer.nn.locked import relock
from titer.train.candidates import Cohesive
from titer.train.cohort import Finetuning, together
from titer.worlds.source import load_world

__all__ = ["Job", "attack", "attack_together", "load_model", "load_named_world", "perform"]

_LOG = logging.getLogger(__name__)
_DIGITS = 1e-6
"""A level of harm is written with so many digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Trials on one model that run together, with the places they need.

    ``keep`` names a folder for the tampered model of a job of one trial. ``base`` is the folder of
    the undefended model.
    """

    trials: tuple[Trial, ...]
    model: str
    world: str
    root: str
    keep: str | None = None
    base: str = ""

    @property
    def size(self) -> int:
        """How many trials' time the job may take."""
        return len(self.trials)


@lru_cache(maxsize=2)
def load_model(folder: str) -> LM:
    """Loaded once a process: trials never change the model they are given."""
    return relock(LM.load(folder))


@lru_cache(maxsize=2)
def load_named_world(source: str) -> World:
    """Loaded once a process."""
    return load_world(source)


class _Recorder:
    """Takes the looks of a run: asks, judges, keeps, and ends it when there is ``enough``."""

    def __init__(
        self, asked: Sequence[Probe], end: int, start: Start | None, enough: Enough | None = None
    ) -> None:
        self.asked, self.end, self.start, self.enough = asked, end, start, enough
        self.points: list[Point] = []
        self.generations: list[dict[str, Any]] = []

    def __call__(self, lm: LM, run: Run) -> None:
        chosen = self.due(run)
        at_start = not self.points and run.spent.steps == 0
        if at_start and self.start and self.start.fits(lm):
            records = self.start.records
        else:
            records = ask(lm, chosen)
        self.take(lm, run, chosen, records)

    def many(
        self, lm: LM, runs: Sequence[Run], alone: Callable[[int], AbstractContextManager[LM]]
    ) -> bool:
        """The looks of several runs with the same questions; those that stacked models can be asked
        together, in one pass. See :meth:`Run.look_together`."""
        panel = [run.emit for run in runs]
        recorders = [other for other in panel if isinstance(other, _Recorder)]
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

    def due(self, run: Run) -> list[Probe]:
        """What is asked at this look."""
        first, last = not self.points, run.spent.steps >= self.end
        return [probe for probe in self.asked if probe.due(first=first, last=last)]

    def take(
        self,
        lm: LM,
        run: Run,
        chosen: Sequence[Probe],
        records: dict[str, list[dict[str, Any]]],
    ) -> None:
        """Judge what was said, and keep it."""
        spent, recent = run.spent, run.losses[-10:]
        logs = {"loss": sum(recent) / len(recent)} if recent else {}
        point = Point(spent=spent, scores=judge(chosen, records), logs=logs)
        if self.enough and 0 < spent.steps < self.end and _shown(self.points, point, self.enough):
            run.stop(STOPPED)
            ends = [probe for probe in self.asked if probe.when == "ends"]
            last = ask(lm, ends)
            records = {**records, **last}
            point = replace(point, scores={**point.scores, **judge(ends, last)})
        self.points.append(point)
        self.generations.append({"steps": spent.steps, "records": records})


def _shown(before: Sequence[Point], now: Point, level: Enough) -> bool:
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


def _prepare(trial: Trial, world: World) -> tuple[Data, list[Probe]]:
    """What the party may see, and what it is asked."""
    if trial.task:
        return Data(unrelated=world.tasks[trial.task].train), task_probes(world, trial.task)
    return world.attacker(trial.domain), probes(world, trial.domain, trial.items)


Done = tuple[Trace, list[dict[str, Any]], LM | None]
"""What a trial left, what was said, and the tampered model."""


class _Attempt:
    """A trial on its way: its run, its looks, and how it ended."""

    def __init__(
        self,
        lm: LM,
        trial: Trial,
        world: World,
        start: Start | None,
        base: Callable[[], LM] | None = None,
    ) -> None:
        data, asked = _prepare(trial, world)
        self.lm, self.trial = lm, trial
        self.started = time.monotonic()
        self.recorder = _Recorder(asked, trial.budget.steps or 0, start, trial.enough)
        self.run = Run(
            budget=trial.budget,
            data=data,
            seed=trial.seed,
            emit=self.recorder,
            checkpoints=trial.checkpoints,
            base=base if trial.base else None,
        )

    def end(self, result: LM | Exception, cohort: tuple[str, ...] = ()) -> Done:
        """Write the trace. A run that diverged or raised keeps the points it reached, and counts as
        a failed attack."""
        status: Status = "ok"
        error = weights = ""
        out: LM | None = None
        try:
            if isinstance(result, Exception):
                raise result
            weights = result.digest()
            points = self.recorder.points
            last = points[-1].spent.steps if points else -1
            steps = self.run.spent.steps
            # An attack without a training step is seen before (point 0) and after.
            changed = (weights, result.template_digest()) != (
                self.lm.digest(),
                self.lm.template_digest(),
            )
            if last != steps or (steps == 0 and changed):
                self.recorder(result, self.run)
            out = result
        except Diverged as problem:
            status, error, weights = "diverged", str(problem), ""
        except Exception:
            status, error, weights = "failed", traceback.format_exc(limit=20), ""
        trace = Trace(
            trial=self.trial,
            status=status,
            points=tuple(self.recorder.points),
            losses=tuple(self.run.losses),
            rates=tuple(self.run.rates),
            flags=tuple(self.run.flags),
            course=tuple(self.run.course),
            error=error,
            seconds=(time.monotonic() - self.started) / max(1, len(cohort)),
            weights=weights,
            cohort=cohort,
        )
        return trace, self.recorder.generations, out


def attack(
    lm: LM,
    trial: Trial,
    world: World,
    start: Start | None = None,
    base: Callable[[], LM] | None = None,
) -> Done:
    """Run one trial's method on a model; ``base`` loads the undefended one."""
    attempt = _Attempt(lm, trial, world, start, base)
    method = catalogue.build("attack", trial.attack.name, dict(trial.attack.fields))
    try:
        if trial.base and base is None:
            raise BadInput(f"the trial starts from the model {trial.base}, and none was given.")
        return attempt.end(method(lm, attempt.run))
    except Exception as problem:
        return attempt.end(problem)


def attack_together(
    lm: LM,
    trials: Sequence[Trial],
    world: World,
    starts: Sequence[Start | None] = (),
    base: Callable[[], LM] | None = None,
) -> Iterator[Done]:
    """Run several trials' methods on one model as a cohort; each as it ends.

    Where the cohort as a whole cannot go on (memory, say), those that have not ended run alone.
    """
    begun = list(starts) or [None] * len(trials)
    if len(trials) == 1:
        yield attack(lm, trials[0], world, begun[0], base)
        return
    keys = tuple(trial.key for trial in trials)
    ended: dict[int, Done] = {}
    attempts = [
        _Attempt(lm, trial, world, start) for trial, start in zip(trials, begun, strict=True)
    ]
    members: dict[int, Finetuning] = {}
    for number, attempt in enumerate(attempts):
        name, fields = attempt.trial.attack.name, dict(attempt.trial.attack.fields)
        try:
            method: Cohesive = catalogue.build("attack", name, fields)
            members[number] = method.finetuning(lm, attempt.run)
        except Exception as problem:
            ended[number] = attempt.end(problem)
    numbers = list(members)

    def left(place: int, result: LM | Exception) -> None:
        number = numbers[place]
        trace, said, _ = attempts[number].end(result, keys)
        ended[number] = trace, said, None

    try:
        if members:
            together(lm, list(members.values()), left)
    except Exception:
        _LOG.warning(
            "a cohort of %d fell apart; its members run alone", len(members), exc_info=True
        )
    for number, trial in enumerate(trials):
        yield ended.get(number) or attack(lm, trial, world, begun[number], base)


def perform(job: Job) -> Status:
    """Run a job and write its results down, all at once at the end; returns how the last ended.

    Raises:
        BadInput: the model or the world cannot be loaded, or the disk is full.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    lm, world = load_model(job.model), load_named_world(job.world)
    root = Path(job.root)
    if is_diagnosis(job.trials[0]):
        trace, said = diagnose(lm, load_model(job.base), job.trials[0], world)
        Store(root).put(trace, said)
        return trace.status
    starts = [start(root, lm, trial, _prepare(trial, world)[1]) for trial in job.trials]
    base = partial(load_model, job.base) if job.base else None
    done = list(attack_together(lm, job.trials, world, starts, base))
    store = Store(root)
    for trace, generations, out in done:
        store.put(trace, generations)
        if job.keep and out is not None:
            with atomic_folder(Path(job.keep)) as scratch:
                out.save(scratch)
    return done[-1][0].status
