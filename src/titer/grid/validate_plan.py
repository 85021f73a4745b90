"""A run folder's config and plan against those that this titer makes of the same study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from titer.core.codec import to_json
from titer.core.data import World
from titer.core.errors import BadInput
from titer.core.records import Trace
from titer.core.study import Manifest
from titer.grid.described import describe
from titer.grid.stages import stages
from titer.grid.study import Experiment
from titer.grid.suite import RETIRED, Suite, suite
from titer.grid.validate_files import Finding

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
    plan: list[dict[str, str]],
    traces: Mapping[str, Trace],
) -> Iterator[Finding]:
    """The config and the plan against those that this titer makes for the same models and seeds,
    given what the trials found; a plan that cannot be read was said before."""
    try:
        meant = _study(study, world)
    except (BadInput, KeyError, TypeError, ValueError) as error:
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
    named = {entry["key"]: entry for entry in plan}
    wanted, whole = _walk(meant, traces)
    have = [_entry(entry["key"], entry["label"], entry["subject"]) for entry in plan]
    for key, label, subject in dict.fromkeys(one for one in wanted if one not in set(have)):
        called = named.get(key)
        says = f"{label} on {subject} was never planned; run the same bench command again."
        if called:
            says = f"is {label} on {subject}, and the plan has it as {_called(called)}."
        yield Finding(check="missing", where=f"trials/{key}", says=says)
    asked = {key for key, _, _ in wanted}
    for key, label, subject in have if whole else ():
        if key not in asked:
            says = f"the plan has {label} on {subject}, which the suite does not ask for."
            yield Finding(check="trial", where=f"trials/{key}", says=says)
    if whole and sorted(have) != sorted(wanted) and set(have) == set(wanted):
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


def _walk(
    study: Experiment, traces: Mapping[str, Trace]
) -> tuple[list[tuple[str, str, str]], bool]:
    """Every trial that the study plans, as far as it can be told, and whether that is all: what
    comes next hangs on trials that may be missing."""
    going = stages(study)
    stage = next(going)
    while True:
        entries = [_entry(trial.key, trial.label, trial.subject) for trial in stage.planned]
        if any(key not in traces for key, _, _ in entries):
            return entries, False
        named = [
            replace(traces[key], trial=replace(traces[key].trial, label=label, subject=subject))
            for key, label, subject in entries
        ]
        try:
            stage = going.send(named)
        except StopIteration:
            return entries, True


def _entry(key: str, label: str, subject: str) -> tuple[str, str, str]:
    return key, label, subject


def _called(entry: Mapping[str, str]) -> str:
    return f"{entry['label']} on {entry['subject']}"


def cells(
    study: Manifest, plan: list[dict[str, str]], traces: Mapping[str, Trace]
) -> Iterator[Finding]:
    """Cells of the suite that no planned trial fills: model by row by seed, and by task. It is what
    can be said without the data; with them :func:`planned` says all. A plan that cannot be read
    was said before."""
    if not plan:
        return
    have: set[tuple[str, str, int, str]] = set()
    for entry in plan:
        if trace := traces.get(entry["key"]):
            trial = trace.trial
            have.add((entry["subject"], entry["label"], trial.seed, trial.domain))
    unread = {(entry["subject"], entry["label"]) for entry in plan if entry["key"] not in traces}
    domain = study.domains[0]
    trained = any(label.startswith("task ") for _, label, _, _ in have)
    for subject in study.subjects:
        if subject.unusable:
            continue
        share = subject.share
        seeds = [share.draw] if share else study.seeds
        labels = [row.id for row in study.rows]
        if trained and not share and subject.role != "oracle":
            labels += [f"task {task.name}" for task in study.tasks]
        wanted = [(label, seed) for label in labels for seed in seeds]
        wanted += [] if share else [("none", study.seeds[0])]
        for label, seed in wanted:
            name = subject.name
            if (name, label, seed, domain) not in have and (name, label) not in unread:
                says = f"seed {seed} was never planned; run the same bench command again."
                yield Finding(check="missing", where=f"{label} on {name}", says=says)
