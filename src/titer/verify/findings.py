"""What is wrong with a run folder: hashes, suite, layout, missing cells. Nothing is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from titer.core.data import World
from titer.core.diagnoses import diagnosis
from titer.core.errors import BadInput
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Status, Trace
from titer.core.study import Manifest, Study
from titer.plan.experiment import stars
from titer.plan.manifest import STUDY, read_config
from titer.plan.suite import suite_hash
from titer.run.entries import Entry
from titer.run.sound import unsound
from titer.run.store import Store, damage, lines, rows
from titer.trial.load import load_named_world
from titer.trial.probes import Probe, asked_in, judge
from titer.verify.beside import beside
from titer.verify.files import Finding, layout, sums, table
from titer.verify.models import models
from titer.verify.planned import cells, planned, suite_of

__all__ = ["Finding", "findings"]


def findings(root: Path) -> list[Finding]:
    """Everything that is wrong with a run folder, in a fixed order.

    Raises:
        BadInput: there is no run folder, or its config is unreadable, so that nothing can be said.
    """
    config = read_config(root)
    study = config.study
    plan, traces, found = _read(root)
    found += [
        *layout(root),
        *_asked(root, study, config.command),
        *sums(root),
        *_suite(study),
        *models(root, study, traces),
        *_sound(study, traces),
        *beside(study, traces),
        *_ended(plan, traces),
        *_results(root, plan, traces),
    ]
    world = _world(study)
    if isinstance(world, Finding):
        return [*found, *cells(study, plan, traces), world]
    again = planned(study, world, plan, traces) if _settled(study) else cells(study, plan, traces)
    return [*found, *again, *_judged(root, world, traces)]


def _asked(root: Path, study: Manifest, command: str) -> Iterator[Finding]:
    """``study.yaml`` against the command and the study that the config has; an older folder has
    none."""
    path = root / STUDY
    if not path.is_file():
        return
    try:
        asked = Study.from_yaml(path)
    except BadInput as error:
        says = f"is no study: {error.faults[0].removeprefix(f'{path}: ')}"
        yield Finding(check="layout", where=STUDY, says=says)
        return
    if asked.command() != command:
        says = f"asks for another study than config.yaml says was run: {command}"
        yield Finding(check="layout", where=STUDY, says=says)
    for what, wanted, there in _told(asked, study):
        says = f"has {what} {there}, and {STUDY} asks for {wanted}."
        yield Finding(check="suite", where="config.yaml", says=says)


def _told(asked: Study, study: Manifest) -> Iterator[tuple[str, str, str]]:
    """What somebody asked for and a study does not have: its name, that, and what there is."""
    cap = (study.suite_settings or {"cap": asked.cap}).get("cap")
    for what, wanted, there in (
        ("suite", asked.suite, study.suite),
        ("data", asked.data, study.world_source),
        ("cap", asked.cap, cap),
        ("seeds", list(range(asked.seeds)), list(study.seeds)),
    ):
        if wanted != there:
            yield what, str(wanted), str(there)
    made = {subject.defence for subject in study.subjects}
    lie = {Path(subject.source).name for subject in study.subjects}
    gone = [one for one in asked.models if Path(one).name not in lie]
    gone += [one for one in asked.defences if one.replace(" ", "") not in made]
    if gone:
        yield "no model", ", ".join(gone), "of that name"


def _settled(study: Manifest) -> bool:
    """Whether the suite's settings were recorded, so that it can be made again."""
    return study.suite_settings is not None


def _read(root: Path) -> tuple[list[Entry], dict[str, Trace], list[Finding]]:
    """The plan and the traces by folder name; what cannot be read is a finding."""
    found: list[Finding] = []
    plan: list[Entry] = []
    store = Store(root)
    try:
        plan = store.plan()
    except FileNotFoundError:
        pass  # said with the layout
    except (OSError, *UNREADABLE) as error:
        says = f"is no plan: {damage(error)}."
        found.append(Finding(check="layout", where="plan.json", says=says))
    traces: dict[str, Trace] = {}
    for folder in sorted((root / "trials").glob("[!.]*")):
        where = f"trials/{folder.name}"
        if not (folder / "status.json").is_file():
            found.append(Finding(check="layout", where=where, says="has no status.json."))
            continue
        try:
            trace = store.get(folder.name)
            if trace.status not in get_args(Status):
                raise ValueError(f"status {trace.status!r}")
            traces[folder.name] = trace
        except (OSError, *UNREADABLE) as error:
            says = f"cannot be read: {damage(error)}."
            found.append(Finding(check="layout", where=where, says=says))
    return plan, traces, found


def _suite(study: Manifest) -> Iterator[Finding]:
    """The suite's hash, worked out again from its name and settings with this version of titer."""
    title = f"{study.suite}-{study.suite_version}"
    if not _settled(study):
        says = "its settings are not recorded, so its hash cannot be worked out again."
        yield Finding(check="suite", where=title, says=says, kind="note")
        return
    try:
        now = suite_of(study)
        digest = suite_hash(now, study.world_digest, study.judges)
    except UNREADABLE as error:
        yield Finding(check="suite", where=title, says=f"is no suite of this titer ({error}).")
        return
    if now.version != study.suite_version:
        says = f"is {now.title} in this titer; results of the two do not compare."
        yield Finding(check="suite", where=title, says=says)
    if study.seeds != tuple(range(len(study.seeds))):
        says = f"has seeds {_list(study.seeds)}; a study counts them from 0 and picks none."
        yield Finding(check="suite", where="config.yaml", says=says)
    names = [subject.name for subject in study.subjects]
    if gone := [text for text in now.beside if text not in names]:
        says = f"measures {', '.join(gone)} in every study, and config.yaml has no such model."
        yield Finding(check="suite", where=title, says=says)
    if digest != study.suite_hash:
        says = (
            f"has hash {study.suite_hash}, and {now.title} of this titer is {digest}; "
            "results of the two do not compare."
        )
        yield Finding(check="suite", where=title, says=says)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _sound(study: Manifest, traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """What every reader of the folder refuses too."""
    try:
        for one in unsound(study, traces):
            yield Finding(check="trial", where=one.where, says=one.says)
    except UNREADABLE as error:
        yield Finding(check="trial", where="trials", says=f"hold what none holds: {damage(error)}.")


def _ended(plan: list[Entry], traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Planned trials without a result, and those that failed."""
    if plan and not any(entry.key in traces for entry in plan):
        says = f"none of the {len(plan)} planned trials has a result."
        yield Finding(check="missing", where="trials", says=says)
        return
    for entry in plan:
        what, trace = str(entry), traces.get(entry.key)
        where = f"trials/{entry.key}"
        if trace is None:
            yield Finding(check="missing", where=where, says=f"{what} has no result.")
        elif trace.status in ("failed", "timed-out"):
            last = trace.error.strip().splitlines()[-1:] or [trace.status]
            yield Finding(check="missing", where=where, says=f"{what} {trace.status}: {last[0]}")


def _results(root: Path, plan: list[Entry], traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """``results.jsonl`` and ``calibration.json`` against the trials they were made of."""
    if not plan or any(entry.key not in traces for entry in plan):
        return
    store = Store(root)
    named = [store.named(entry) for entry in plan]
    made: dict[str, Callable[[], str]] = {
        "results.jsonl": lambda: lines(rows(named)),
        "calibration.json": lambda: json.dumps({"stars": stars(named)}, indent=1, sort_keys=True),
    }
    for name, make in made.items():
        path = root / name
        if path.is_file() and path.read_bytes() != make().encode("utf-8"):
            says = "is not what the trials give; run the same bench command again."
            yield Finding(check="result", where=name, says=says)
    yield from table(root, named)


def _world(study: Manifest) -> World | Finding:
    """The data of the study, where they are here and as they were."""
    source = study.world_source
    try:
        world = load_named_world(source)
    except BadInput as error:
        says = f"is not here, so no answer was judged again ({error.faults[0]})"
        return Finding(check="judge", where=source, says=says, kind="note")
    if world.digest() == study.world_digest:
        return world
    says = f"is {world.digest()} here and was {study.world_digest}; nothing was judged again."
    return Finding(check="judge", where=source, says=says, kind="note")


def _judged(root: Path, world: World, traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Scores against what the models said, judged again; it needs the world and no model."""
    for key, trace in traces.items():
        trial, where = trace.trial, f"trials/{key}"
        if trial.domain not in world.hazards or (trial.task and trial.task not in world.tasks):
            yield Finding(check="judge", where=where, says="is about what the world does not have.")
            continue
        asked = asked_in(world, trial)
        try:
            text = (root / where / "generations.jsonl").read_text(encoding="utf-8")
            said = [load_json(line) for line in text.splitlines()]
            steps = [look["steps"] for look in said]
            scores = [judge(asked, look["records"]) for look in said]
        except (OSError, *UNREADABLE) as error:
            says = f"what was said cannot be judged: {damage(error)}."
            yield Finding(check="judge", where=where, says=says)
            continue
        if scores != [dict(point.scores) for point in trace.points]:
            says = "its scores are not what the judges give for what was said."
            yield Finding(check="judge", where=where, says=says)
        elif steps != [point.spent.steps for point in trace.points]:
            says = "what was said is of other checkpoints than its scores."
            yield Finding(check="judge", where=where, says=says)
        elif lost := _unasked(trace, asked):
            says = f"was not asked everything at each checkpoint: {', '.join(lost)} is missing."
            yield Finding(check="judge", where=where, says=says)


def _unasked(trace: Trace, asked: Sequence[Probe]) -> list[str]:
    """Probes that are due at a checkpoint and were not taken; a diagnosis asks what it likes."""
    if diagnosis(trace.trial) or trace.status != "ok":
        return []
    return sorted(
        {
            probe.name
            for place, point in enumerate(trace.points)
            for probe in asked
            if probe.due(first=not place, last=False) and probe.name not in point.scores
        }
    )
