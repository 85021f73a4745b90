"""A run folder's config and plan against those that this titer makes of the same study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from titer.core.codec import to_json
from titer.core.data import World
from titer.core.reading import UNREADABLE
from titer.core.records import Trace
from titer.core.study import Manifest
from titer.plan.experiment import Experiment
from titer.plan.manifest import describe
from titer.plan.schedule import stages
from titer.plan.suite import RETIRED, Suite
from titer.plan.suites import suite
from titer.run.entries import Entry
from titer.verify.files import Finding

__all__ = ["cells", "planned", "suite_of"]

_CATALOGUE = re.compile(r"\d+ of the catalogue's \d+ rows")


def suite_of(study: Manifest) -> Suite:
    """The suite of a config: its name's rows with the settings that were recorded.

    Raises:
        BadInput, KeyError, TypeError: there is no such suite, or no such setting.
    """
    settings = study.suite_settings or {}
    plain = {
        **{name: value for name, value in settings.items() if name not in RETIRED},
        "rates": tuple(settings["rates"]),
        "controls": tuple(settings["controls"]),
        "relatives": tuple(map(tuple, settings["relatives"])),
    }
    return replace(suite(study.suite), **plain)


def planned(
    study: Manifest,
    world: World,
    plan: list[Entry],
    traces: Mapping[str, Trace],
) -> Iterator[Finding]:
    """The config and the plan against those that this titer makes for the same models and seeds,
    given what the trials found; a plan that cannot be read was said before."""
    try:
        meant = _study(study, world)
    except UNREADABLE as error:
        says = f"cannot be planned again ({error})."
        yield Finding(check="suite", where="config.yaml", says=says)
        return
    now = describe(meant)
    for name in (spec.name for spec in fields(Manifest)):
        told = name in ("suite", "suite_version", "suite_hash")  # of the suite itself
        if not told and _comparable(study, name) != _comparable(now, name):
            says = f"{name} is not what this titer writes for such a study."
            yield Finding(check="suite", where="config.yaml", says=says)
    if not plan:
        return
    named = {entry.key: entry for entry in plan}
    wanted, whole = _walk(meant, traces)
    for entry in dict.fromkeys(one for one in wanted if one not in set(plan)):
        called = named.get(entry.key)
        says = f"{entry} was never planned; run the same bench command again."
        if called:
            says = f"is {entry}, and the plan has it as {called}."
            if str(called) == str(entry):
                says = f"is {entry}, and the plan says that it is for something else."
        yield Finding(check="missing", where=f"trials/{entry.key}", says=says)
    asked = {entry.key for entry in wanted}
    for entry in plan if whole else ():
        if entry.key not in asked:
            says = f"the plan has {entry}, which the suite does not ask for."
            yield Finding(check="trial", where=f"trials/{entry.key}", says=says)
    if whole and len(plan) != len(wanted) and set(plan) == set(wanted):
        yield Finding(check="layout", where="plan.json", says="names a trial twice.")


def _study(study: Manifest, world: World) -> Experiment:
    """The study that a config describes."""
    return Experiment(
        suite=suite_of(study),
        world=world,
        source=study.world_source,
        subjects=study.subjects,
        seeds=study.seeds,
        domain=study.domains[0],
        tasks=tuple(task.name for task in study.tasks),
    )


def _comparable(study: Manifest, name: str) -> str:
    """As JSON; how many rows the whole catalogue has is no matter, since a plug-in may add some."""
    text = json.dumps(to_json(getattr(study, name)), sort_keys=True)
    return _CATALOGUE.sub("", text) if name == "not_tested" else text


def _walk(study: Experiment, traces: Mapping[str, Trace]) -> tuple[list[Entry], bool]:
    """Every trial that the study plans, as far as it can be told, and whether that is all: what
    comes next hangs on trials that may be missing."""
    going = stages(study)
    stage = next(going)
    while True:
        entries = [Entry.of(trial) for trial in stage.planned]
        if any(entry.key not in traces for entry in entries):
            return entries, False
        named = [entry.call(traces[entry.key]) for entry in entries]
        try:
            stage = going.send(named)
        except StopIteration:
            return entries, True


def cells(study: Manifest, plan: list[Entry], traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Cells of the suite that no planned trial fills: model by row by seed, and by task. It is what
    can be said without the data; with them :func:`planned` says all. A plan that cannot be read
    was said before."""
    if not plan:
        return
    known = [(entry, traces[entry.key].trial) for entry in plan if entry.key in traces]
    have = {(e.subject, e.role, e.row, trial.seed, trial.domain) for e, trial in known}
    unread = {(e.subject, e.role, e.row) for e in plan if e.key not in traces}
    domain = study.domains[0]
    trained = any(entry.role == "task" for entry, _ in known)
    for subject in study.subjects:
        if subject.unusable:
            continue
        share = subject.share
        seeds = [share.draw] if share else study.seeds
        name, kinds = subject.name, [("adversary", row.id, row.id) for row in study.rows]
        if trained and not share and subject.role != "oracle":
            kinds += [("task", task.name, f"task {task.name}") for task in study.tasks]
        wanted = [(*kind, seed) for kind in kinds for seed in seeds]
        wanted += [] if share else [("baseline", "", "none", study.seeds[0])]
        for role, row, label, seed in wanted:
            if (name, role, row, seed, domain) not in have and (name, role, row) not in unread:
                says = f"seed {seed} was never planned; run the same bench command again."
                yield Finding(check="missing", where=f"{label} on {name}", says=says)
