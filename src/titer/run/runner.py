"""Run a study: calibrate, attack, train; resume whatever is already there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from titer.core.diagnoses import diagnosis
from titer.core.jobs import Executor, Progress
from titer.core.records import Trace, Trial
from titer.core.study import Study
from titer.plan.experiment import Experiment, cost
from titer.plan.manifest import STUDY, claim_folder, describe, write_config
from titer.plan.schedule import stages
from titer.run.cohorts import cohorts, room
from titer.run.crew import crew
from titer.run.entries import Entry
from titer.run.heard import Listening
from titer.run.jobs import Job, perform
from titer.run.machine import write_machine
from titer.run.store import Store, require_space, write_atomic

__all__ = ["Told", "run_study", "run_trials"]

Told = Callable[[Trace], None]
"""Told of a trial that has ended."""


def run_study(
    study: Experiment,
    root: Path,
    executor: Executor,
    *,
    progress: Progress | None = None,
    ended: Told | None = None,
    listening: Listening | None = None,
    environment: dict[str, Any] | None = None,
    asked: Study | None = None,
    created: str = "",
) -> list[Trace]:
    """Run every trial of a study that has no result yet; returns all of the study's traces.

    ``asked`` is what somebody asked for; the run folder keeps it, as ``study.yaml``. ``ended`` is
    told of every trial as it ends, and who is ``listening`` of every checkpoint.

    Trials that failed or timed out are run again; finished ones never are. Other processes may do
    the same in the same folder: each does trials that nobody has, and all end with all traces.
    """
    claim_folder(root, study.suite_digest)
    store = Store(root)
    with crew(root) as hands:
        if not (others := hands.others()):
            store.sweep()
    going = stages(study)
    stage = next(going)
    require_space(root, 2**20 * (50 + 2 * len(stage.run)))
    command = asked.command() if asked else ""
    write_config(root, describe(study), command, created, shared=bool(others))
    if asked:
        write_atomic(root / STUDY, asked.to_yaml())
    write_machine(root, environment or {}, shared=bool(others))
    while True:
        entries = _write_plan(root, stage.planned)
        run_trials(study, store, stage.run, executor, stage.label, progress, ended, listening)
        traces = [store.named(entry) for entry in entries]
        try:
            stage = going.send(traces)
        except StopIteration as end:
            rates: dict[str, float] = end.value
            break
    store.write_results(traces)
    write_atomic(root / "calibration.json", json.dumps({"stars": rates}, indent=1, sort_keys=True))
    return traces


def _write_plan(root: Path, trials: Sequence[Trial]) -> list[Entry]:
    """Which trials a study has, under which names; a report of an unfinished study needs it too."""
    entries = [Entry.of(trial) for trial in trials]
    written = [entry.to_json() for entry in entries]
    write_atomic(root / "plan.json", json.dumps(written, indent=1))
    return entries


def unique(trials: Iterable[Trial]) -> list[Trial]:
    """Trials by key, first come first kept."""
    return list({trial.key: trial for trial in reversed(list(trials))}.values())[::-1]


def run_trials(
    study: Experiment,
    store: Store,
    trials: Sequence[Trial],
    executor: Executor,
    label: str = "",
    progress: Progress | None = None,
    ended: Told | None = None,
    listening: Listening | None = None,
) -> None:
    """Run those trials on the study's models that have no result yet, cohorts in one pass.

    The trials may be others than the study's own plan.
    """
    by_digest = {subject.digest: subject for subject in study.subjects}
    every = unique(trials)

    def length(trial: Trial) -> float:
        return cost(trial, by_digest[trial.model].parameters)

    # Cohorts are formed of all trials, so that every process forms the same ones, as does one that
    # goes on with a study that was stopped.
    looks = [[trial] for trial in every if diagnosis(trial)]
    runs = [trial for trial in every if not diagnosis(trial)]
    groups = cohorts(runs, lambda trial: room(study, by_digest[trial.model].parameters, trial))
    jobs = [
        Job(
            trials=tuple(group),
            left=tuple(left),
            model=by_digest[group[0].model].folder,
            world=study.source,
            root=str(store.root),
            base=_base(study) if any(t.base or diagnosis(t) for t in group) else "",
            interface=by_digest[group[0].interface].folder if group[0].interface else "",
        )
        for group in [*groups, *looks]
        if (left := store.left([trial.key for trial in group]))
    ]
    jobs.sort(key=lambda job: sum(length(t) for t in job.trials if t.key in job.left), reverse=True)
    total = len(every)
    done = total - sum(len(job.left) for job in jobs)
    if progress:
        progress(label, done, total)
    work = partial(perform, note=listening.note if listening else None)
    with crew(store.root) as hands:
        for end in hands.share(executor, work, jobs):
            if listening:
                listening.catch_up()
            for trial in end.job.trials:
                if trial.key not in end.job.left:
                    continue
                if not store.status(trial.key).exists() or end.error:
                    store.put(Trace(trial=trial, status=end.status, error=end.error))
                if ended:
                    ended(store.get(trial.key))
            done += len(end.job.left)
            if progress:
                progress(label, done, total)


def _base(study: Experiment) -> str:
    """Where the undefended model lies, which a few trials ask for."""
    return study.undefended().folder
