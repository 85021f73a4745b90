"""Trials of a run folder, run again in the company they had, and compared with what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from titer.core.diagnoses import diagnosis, reference
from titer.core.errors import BadInput
from titer.core.jobs import Executor
from titer.core.reading import UNREADABLE
from titer.core.records import Trace, Trial
from titer.core.study import Manifest
from titer.plan.manifest import read_config
from titer.run.jobs import Job, perform
from titer.run.store import Store
from titer.trial.load import load_named_world
from titer.verify.agreement import Again
from titer.verify.models import here
from titer.worlds.hub import fetch, resolve_model

__all__ = ["Progress", "finished", "place", "plan", "recorded", "rerun"]

Progress = Callable[[str, int, int], None]


def recorded(root: Path) -> dict[str, Trace]:
    """The trials of a study's plan, by key.

    Raises:
        BadInput: a trial is not what its key says.
    """
    store = Store(root)
    found = {entry.key: store.named(entry) for entry in store.ended()}
    for key, trace in found.items():
        if trace.trial.key != key:
            raise BadInput(
                f"trials/{key}: what was asked has been changed: its key is {trace.trial.key} now; "
                f"`titer validate {root}` says what else is wrong."
            )
    return found


def finished(traces: Mapping[str, Trace]) -> dict[str, Trace]:
    """Those that have ended for good: a trial that failed or timed out says nothing to compare."""
    return {key: trace for key, trace in traces.items() if trace.status in ("ok", "diverged")}


def plan(root: Path, keys: Sequence[str], scratch: Path) -> list[Job]:
    """What would be run to run trials again, each with the cohort it trained in.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    study, store = read_config(root).study, Store(root)
    _same_world(study)
    groups = dict.fromkeys(store.get(key).cohort or (key,) for key in keys)
    places: dict[str, str] = {}
    jobs: list[Job] = []
    for group in groups:
        traces = [_companion(store, key) for key in group]
        first = traces[0].trial
        model, base = first.model, _base(first)
        for digest in filter(None, (model, base, first.interface)):
            if digest not in places:
                places[digest] = place(root, study, digest)
        jobs.append(
            Job(
                trials=tuple(trace.trial for trace in traces),
                model=places[model],
                world=study.world_source,
                root=str(scratch),
                base=places.get(base, ""),
                interface=places.get(first.interface, ""),
            )
        )
    return jobs


def rerun(
    root: Path,
    keys: Sequence[str],
    scratch: Path,
    executor: Executor,
    progress: Progress | None = None,
) -> dict[str, Again]:
    """Run trials again, each with the cohort it trained in, and leave ``root`` as it is.

    The others of a cohort are run too, since alone a trial's numbers differ by rounding, and come
    back as well. ``scratch`` takes what the trials write.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    jobs = plan(root, keys, scratch)
    total = sum(job.size for job in jobs)
    done = 0
    if progress:
        progress("running again", 0, total)
    lost: dict[str, Trace] = {}
    for ended in executor(perform, jobs):
        for trial in ended.job.trials if ended.error else ():
            lost[trial.key] = Trace(trial=trial, status=ended.status, error=ended.error)
        done += ended.job.size
        if progress:
            progress("running again", done, total)
    traces = {trace.trial.key: trace for trace in Store(scratch).traces()} | lost
    return {
        key: Again(trace=trace, said=_same_answers(root, scratch, key))
        for key, trace in traces.items()
    }


def _same_answers(root: Path, scratch: Path, key: str) -> bool | None:
    """Whether two run folders have the same answers of a trial, byte for byte."""
    files = [Store(folder).folder(key) / "generations.jsonl" for folder in (root, scratch)]
    if not all(file.is_file() for file in files):
        return None
    there, now = (file.read_bytes() for file in files)
    return there == now


def _companion(store: Store, key: str) -> Trace:
    """A trial that is run again, drawn or beside one that was."""
    try:
        return store.get(key)
    except (OSError, *UNREADABLE):
        raise BadInput(
            f"trials/{key} is not in the folder, or damaged, and a trial that was drawn trained "
            "beside it, so that it cannot be run again as it was; run the same bench command "
            "again to complete the study."
        ) from None


def _base(trial: Trial) -> str:
    """The digest of the undefended model, where the trial asks for it."""
    return reference(trial) if diagnosis(trial) else trial.base


def _same_world(study: Manifest) -> None:
    source = study.world_source
    now = load_named_world(source).digest()
    if now != study.world_digest:
        raise BadInput(
            f"the world {source} is {now} here and was {study.world_digest} in the study; "
            "nothing can be run again without the data it was run on."
        )


def place(root: Path, study: Manifest, digest: str) -> str:
    """Where a model of the study lies now: as recorded, inside the run folder, or by its name.

    Raises:
        BadInput: it is not here any more, or is another than it was.
    """
    subject = next((one for one in study.subjects if one.digest == digest), None)
    if subject is None:
        raise BadInput(f"a trial is on a model {digest} that the study does not name.")
    if folder := here(root, subject):
        return str(folder)
    source, revision = subject.source, subject.revision
    if revision or source.startswith("fabula:"):
        found = resolve_model(f"{source}@{revision}" if revision else source)
        if found.digest == digest:
            return str(fetch(found))
    raise BadInput(
        f"the model {subject.name} ({source}, digest {digest}) is not here or has changed; "
        f"put it back at {subject.folder}."
    )
