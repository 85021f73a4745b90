"""One trial, start to end, in whatever process it is given."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from titer.core import catalogue
from titer.core.data import Data, World
from titer.core.errors import Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Point, Status, Trace, Trial
from titer.grid.probes import Probe, ask, judge, probes, task_probes
from titer.grid.store import Store, atomic_folder
from titer.worlds.source import load_world

__all__ = ["Job", "attack", "load_model", "load_named_world", "perform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial with the places it needs. ``keep`` names a folder for the tampered model."""

    trial: Trial
    model: str
    world: str
    root: str
    keep: str | None = None


@lru_cache(maxsize=2)
def load_model(folder: str) -> LM:
    """Loaded once a process: trials never change the model they are given."""
    return LM.load(folder)


@lru_cache(maxsize=2)
def load_named_world(source: str) -> World:
    """Loaded once a process."""
    return load_world(source)


class _Start:
    """What an untouched model says, asked once for all the trials that start from it.

    An attack may have changed the model before its first look, so the answers are handed out only
    where a few of them come out the same again, to the bit.
    """

    SAMPLE = 8

    def __init__(self, lm: LM, asked: Sequence[Probe]) -> None:
        self.sample = [replace(probe, items=probe.items[: self.SAMPLE]) for probe in asked[:1]]
        self.signs = ask(lm, self.sample)
        self.records = ask(lm, asked)

    def fits(self, lm: LM) -> bool:
        """Whether ``lm`` is still the model these answers are from."""
        return ask(lm, self.sample) == self.signs


class _Recorder:
    """Takes the looks of a run: asks, judges, keeps."""

    def __init__(self, asked: Sequence[Probe], end: int, start: _Start | None) -> None:
        self.asked, self.end, self.start = asked, end, start
        self.points: list[Point] = []
        self.generations: list[dict[str, Any]] = []

    def __call__(self, lm: LM, run: Run) -> None:
        spent = run.spent
        first = not self.points
        chosen = [
            probe for probe in self.asked if probe.due(first=first, last=spent.steps >= self.end)
        ]
        if first and spent.steps == 0 and self.start and self.start.fits(lm):
            records = self.start.records
        else:
            records = ask(lm, chosen)
        recent = run.losses[-10:]
        logs = {"loss": sum(recent) / len(recent)} if recent else {}
        self.points.append(Point(spent=spent, scores=judge(chosen, records), logs=logs))
        self.generations.append({"steps": spent.steps, "records": records})


def _prepare(trial: Trial, world: World) -> tuple[Data, list[Probe]]:
    """What the party may see, and what it is asked."""
    if trial.task:
        return Data(unrelated=world.tasks[trial.task].train), task_probes(world, trial.task)
    return world.attacker(trial.domain), probes(world, trial.domain, trial.items)


@lru_cache(maxsize=16)
def _start(folder: str, source: str, domain: str, task: str, items: int | None) -> _Start:
    world = load_named_world(source)
    asked = task_probes(world, task) if task else probes(world, domain, items)
    return _Start(load_model(folder), asked)


def attack(
    lm: LM, trial: Trial, world: World, start: _Start | None = None
) -> tuple[Trace, list[dict[str, Any]], LM | None]:
    """Run a trial's method on a model; what it left, what was said, and the tampered model.

    A run that diverges or raises ends in a trace that says so: its points up to then stand, and it
    counts as a failed attack.
    """
    started = time.monotonic()
    data, asked = _prepare(trial, world)
    recorder = _Recorder(asked, trial.budget.steps or 0, start)
    run = Run(
        budget=trial.budget,
        data=data,
        seed=trial.seed,
        emit=recorder,
        checkpoints=trial.checkpoints,
    )
    method = catalogue.build("attack", trial.attack.name, dict(trial.attack.fields))
    out: LM | None = None
    status: Status = "ok"
    error = ""
    try:
        tampered: LM = method(lm, run)
        weights = tampered.digest()
        last = recorder.points[-1].spent.steps if recorder.points else -1
        changed = weights != lm.digest() or tampered.template_digest() != lm.template_digest()
        # An attack without a training step is seen before (point 0) and after.
        if last != run.spent.steps or (run.spent.steps == 0 and changed):
            recorder(tampered, run)
        out = tampered
    except Diverged as problem:
        status, error, weights = "diverged", str(problem), ""
    except Exception:
        status, error, weights = "failed", traceback.format_exc(limit=20), ""
    trace = Trace(
        trial=trial,
        status=status,
        points=tuple(recorder.points),
        losses=tuple(run.losses),
        rates=tuple(run.rates),
        flags=tuple(run.flags),
        error=error,
        seconds=time.monotonic() - started,
        weights=weights,
    )
    return trace, recorder.generations, out


def perform(job: Job) -> Status:
    """Run a job and write its result down; returns how it ended.

    Raises:
        BadInput: the model or the world cannot be loaded, or the disk is full.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    lm, world = load_model(job.model), load_named_world(job.world)
    trial = job.trial
    start = _start(job.model, job.world, trial.domain, trial.task, trial.items)
    trace, generations, out = attack(lm, trial, world, start)
    Store(Path(job.root)).put(trace, generations)
    if job.keep and out is not None:
        with atomic_folder(Path(job.keep)) as scratch:
            out.save(scratch)
    return trace.status
