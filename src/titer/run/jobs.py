"""A job in whatever process it is given: trials on one model, run and written down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from titer.core.diagnoses import diagnosis
from titer.core.records import Status, Trial, content_key
from titer.run.heard import Note
from titer.run.store import Store, atomic_folder
from titer.trial.attempt import prepare
from titer.trial.baselines import baseline
from titer.trial.cohort import attack_together
from titer.trial.diagnose import diagnose
from titer.trial.load import load_model, load_named_world

__all__ = ["Job", "perform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Trials on one model that run together, with the places they need; of them those run that
    have no result yet.

    ``left`` are the keys of those that had none when the job was made. ``keep`` names a folder for
    the tampered model of a job of one trial. ``base`` is the folder of the undefended model,
    ``interface`` that of the model through whose interface the trials go, empty where they go
    through the attacked one's own.
    """

    trials: tuple[Trial, ...]
    model: str
    world: str
    root: str
    left: tuple[str, ...] = ()
    keep: str | None = None
    base: str = ""
    interface: str = ""

    @property
    def size(self) -> int:
        """How many trials' time the job may take."""
        return len(self.trials)

    @property
    def claim(self) -> str:
        """Its name in every process that works in the run folder."""
        return content_key([trial.key for trial in self.trials])

    @property
    def says(self) -> str:
        """Its first trial, and how many more there are."""
        first, more = self.trials[0], len(self.trials) - 1
        return f"{first.label} on {first.subject}" + (f" and {more} beside it" if more else "")

    @property
    def results(self) -> list[Path]:
        """The files that will say how those that are left ended."""
        return [Store(Path(self.root)).status(key) for key in self.left]


def perform(job: Job, note: Note | None = None) -> Status:
    """Run a job and write its results down, all at once at the end; returns how the last ended.
    ``note`` takes down every checkpoint as it is passed.

    Raises:
        BadInput: the model or the world cannot be loaded, or the disk is full.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    root, store = Path(job.root), Store(Path(job.root))
    left = set(store.left([trial.key for trial in job.trials]))
    trials = [trial for trial in job.trials if trial.key in left]
    if not trials:
        return "ok"
    lm, world = load_model(job.model, job.interface), load_named_world(job.world)
    if diagnosis(trials[0]):
        trace, said = diagnose(lm, load_model(job.base), trials[0], world)
        store.put(trace, said)
        return trace.status
    baselines = [baseline(root, lm, trial, prepare(trial, world)[1]) for trial in trials]
    base = partial(load_model, job.base) if job.base else None
    done = list(attack_together(lm, trials, world, baselines, base, note))
    for trace, generations, out in done:
        store.put(trace, generations)
        if job.keep and out is not None:
            with atomic_folder(Path(job.keep)) as scratch:
                out.save(scratch)
    return done[-1][0].status
