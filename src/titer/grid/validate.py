"""What is wrong with a run folder: hashes, suite, layout, missing cells. Nothing is run."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from titer.core.errors import BadInput
from titer.core.modelfolder import folder_digest
from titer.core.records import Status, Trace
from titer.grid.again import study_of
from titer.grid.perform import load_named_world
from titer.grid.probes import judge, probes, task_probes
from titer.grid.store import FORMAT, Store, lines, rows
from titer.grid.study import stars
from titer.grid.suite import suite, suite_hash

__all__ = ["Finding", "findings"]

Check = Literal["layout", "hash", "suite", "model", "trial", "missing", "result", "judge"]
_KEY = re.compile(r"[0-9a-f]{16}")
_WANTED = ("env.json", "plan.json", "calibration.json", "results.jsonl", "SHA256SUMS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong (``fault``), or that could not be looked at (``note``)."""

    check: Check
    where: str
    says: str
    kind: Literal["fault", "note"] = "fault"

    def line(self) -> str:
        """``fault: hash: results.jsonl: …``."""
        return f"{self.kind}: {self.check}: {self.where}: {self.says}"


def findings(root: Path) -> list[Finding]:
    """Everything that is wrong with a run folder, in a fixed order.

    Raises:
        BadInput: there is no run folder, or its config is unreadable, so that nothing can be said.
    """
    study = study_of(root)
    plan, traces, found = _read(root)
    found += [
        *_layout(root),
        *_sums(root),
        *_suite(study),
        *_models(root, study),
        *_trials(study, traces),
        *_ended(plan, traces),
        *_cells(study, plan, traces),
        *_results(root, plan, traces),
        *_judged(root, study, traces),
    ]
    return found


def _read(root: Path) -> tuple[list[dict[str, str]], dict[str, Trace], list[Finding]]:
    """The plan and the traces by folder name; what cannot be read is a finding."""
    found: list[Finding] = []
    plan: list[dict[str, str]] = []
    try:
        raw = json.loads((root / "plan.json").read_text(encoding="utf-8"))
        for entry in raw:
            if not _KEY.fullmatch(entry["key"]):
                raise ValueError(f"{entry['key']!r} is no key")
            plan.append({name: str(entry[name]) for name in ("key", "label", "subject")})
    except FileNotFoundError:
        pass  # said with the layout
    except (KeyError, TypeError, ValueError) as error:
        says = f"is no plan ({type(error).__name__}: {error})."
        found.append(Finding(check="layout", where="plan.json", says=says))
    store = Store(root)
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
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            says = f"cannot be read ({type(error).__name__}: {error})."
            found.append(Finding(check="layout", where=where, says=says))
    return plan, traces, found


def _layout(root: Path) -> Iterator[Finding]:
    for name in _WANTED:
        if not (root / name).is_file():
            says = "is missing; run the same bench command again to complete the study."
            yield Finding(check="layout", where=name, says=says)
    import yaml

    found = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8")).get("format")
    if found != FORMAT:
        says = f"format {found!r}; this version of titer reads {FORMAT}."
        yield Finding(check="layout", where="config.yaml", says=says)


def _sums(root: Path) -> Iterator[Finding]:
    """Files against ``SHA256SUMS``, both ways."""
    sums = root / "SHA256SUMS"
    if not sums.is_file():
        return
    named: set[str] = set()
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = PurePosixPath(name)
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or path.is_absolute() or ".." in path.parts:
            yield Finding(check="hash", where="SHA256SUMS", says=f"has a line that is none: {line}")
            continue
        named.add(name)
        if not (root / name).is_file():
            yield Finding(check="hash", where=name, says="is in SHA256SUMS and not in the folder.")
        elif hashlib.sha256((root / name).read_bytes()).hexdigest() != digest:
            yield Finding(
                check="hash", where=name, says="has changed since SHA256SUMS was written."
            )
    for name in Store(root).files():
        if name not in named:
            yield Finding(check="hash", where=name, says="is in the folder and not in SHA256SUMS.")


def _suite(study: Mapping[str, Any]) -> Iterator[Finding]:
    """The suite's hash, worked out again from its name and settings with this version of titer."""
    title = f"{study['suite']}-{study['suite_version']}"
    settings = study.get("suite_settings")
    if not isinstance(settings, dict):
        says = "its settings are not recorded, so its hash cannot be worked out again."
        yield Finding(check="suite", where=title, says=says, kind="note")
        return
    try:
        plain = {
            **settings,
            "rates": tuple(settings["rates"]),
            "controls": tuple(settings["controls"]),
            "relatives": tuple(map(tuple, settings["relatives"])),
        }
        now = replace(suite(study["suite"]), **plain)
        digest = suite_hash(now, study["world_digest"], study["judges"])
    except (BadInput, KeyError, TypeError) as error:
        yield Finding(check="suite", where=title, says=f"is no suite of this titer ({error}).")
        return
    if digest != study["suite_hash"]:
        says = (
            f"has hash {study['suite_hash']}, and {now.title} of this titer is {digest}; "
            "results of the two do not compare."
        )
        yield Finding(check="suite", where=title, says=says)


def _models(root: Path, study: Mapping[str, Any]) -> Iterator[Finding]:
    """The models that lie in the run folder, against their digests."""
    for subject in study["subjects"]:
        source = PurePosixPath(subject["source"])
        if source.parts[:1] != ("models",) or ".." in source.parts:
            continue
        folder = root / source
        if not folder.is_dir():
            says = f"{subject['name']} is not in the folder, so its trials cannot be run again."
            yield Finding(check="model", where=str(source), says=says, kind="note")
        elif folder_digest(folder) != subject["digest"]:
            says = f"is not the model {subject['name']} that was measured ({subject['digest']})."
            yield Finding(check="model", where=str(source), says=says)


def _trials(study: Mapping[str, Any], traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Each trial against its own name and against the study."""
    models = {subject["digest"] for subject in study["subjects"]}
    for key, trace in traces.items():
        trial, where = trace.trial, f"trials/{key}"
        if trial.key != key:
            says = f"what was asked has been changed: its key is {trial.key} now."
            yield Finding(check="trial", where=where, says=says)
        for what, ours, theirs in (
            ("suite", trial.suite, study["suite_hash"]),
            ("world", trial.world, study["world_digest"]),
        ):
            if ours != theirs:
                says = f"is of {what} {ours}, and the study is {theirs}."
                yield Finding(check="trial", where=where, says=says)
        if trial.model not in models:
            says = f"is on a model {trial.model} that the study does not name."
            yield Finding(check="trial", where=where, says=says)
        if trace.status == "ok" and not trace.points:
            yield Finding(check="trial", where=where, says="ended well and has no look.")
        spoilt = sorted(
            {
                probe
                for point in trace.points
                for probe, scores in point.scores.items()
                if not all(map(math.isfinite, scores))
            }
        )
        if spoilt:
            says = f"has scores that are no numbers: {', '.join(spoilt)}."
            yield Finding(check="trial", where=where, says=says)


def _ended(plan: list[dict[str, str]], traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Planned trials without a result, and those that failed."""
    for entry in plan:
        what, trace = f"{entry['label']} on {entry['subject']}", traces.get(entry["key"])
        where = f"trials/{entry['key']}"
        if trace is None:
            yield Finding(check="missing", where=where, says=f"{what} has no result.")
        elif trace.status in ("failed", "timed-out"):
            last = trace.error.strip().splitlines()[-1:] or [trace.status]
            yield Finding(check="missing", where=where, says=f"{what} {trace.status}: {last[0]}")


def _cells(
    study: Mapping[str, Any], plan: list[dict[str, str]], traces: Mapping[str, Trace]
) -> Iterator[Finding]:
    """Cells of the suite that no planned trial fills: model by row by seed, and by task."""
    have: set[tuple[str, str, int, str]] = set()
    for entry in plan:
        if trace := traces.get(entry["key"]):
            trial = trace.trial
            have.add((entry["subject"], entry["label"], trial.seed, trial.domain))
    unread = {(entry["subject"], entry["label"]) for entry in plan if entry["key"] not in traces}
    domain = study["domains"][0]
    trained = any(label.startswith("task ") for _, label, _, _ in have)
    for subject in study["subjects"]:
        if subject.get("unusable"):
            continue
        share = subject.get("share")
        seeds = [share["draw"]] if share else study["seeds"]
        labels = [row["id"] for row in study["rows"]]
        if trained and not share and subject["role"] != "oracle":
            labels += [f"task {task['name']}" for task in study["tasks"]]
        wanted = [(label, seed) for label in labels for seed in seeds]
        wanted += [] if share else [("none", study["seeds"][0])]
        for label, seed in wanted:
            name = subject["name"]
            if (name, label, seed, domain) not in have and (name, label) not in unread:
                says = f"seed {seed} was never planned; run the same bench command again."
                yield Finding(check="missing", where=f"{label} on {name}", says=says)


def _results(
    root: Path, plan: list[dict[str, str]], traces: Mapping[str, Trace]
) -> Iterator[Finding]:
    """``results.jsonl`` and ``calibration.json`` against the trials they were made of."""
    if not plan or any(entry["key"] not in traces for entry in plan):
        return
    store = Store(root)
    named = [store.named(entry) for entry in plan]
    made: dict[str, Callable[[], str]] = {
        "results.jsonl": lambda: lines(rows(named)),
        "calibration.json": lambda: json.dumps({"stars": stars(named)}, indent=1, sort_keys=True),
    }
    for name, make in made.items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") != make():
            says = "is not what the trials give; run the same bench command again."
            yield Finding(check="result", where=name, says=says)


def _judged(root: Path, study: Mapping[str, Any], traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Scores against what the models said, judged again; it needs the world and no model."""
    try:
        world = load_named_world(study["world_source"])
    except BadInput as error:
        says = f"is not here, so no answer was judged again ({error.faults[0]})"
        yield Finding(check="judge", where=study["world_source"], says=says, kind="note")
        return
    if world.digest() != study["world_digest"]:
        says = (
            f"is {world.digest()} here and was {study['world_digest']}; nothing was judged again."
        )
        yield Finding(check="judge", where=study["world_source"], says=says, kind="note")
        return
    for key, trace in traces.items():
        trial, where = trace.trial, f"trials/{key}"
        if trial.domain not in world.hazards or (trial.task and trial.task not in world.tasks):
            yield Finding(check="judge", where=where, says="is about what the world does not have.")
            continue
        task = trial.task
        asked = task_probes(world, task) if task else probes(world, trial.domain, trial.items)
        try:
            text = (root / where / "generations.jsonl").read_text(encoding="utf-8")
            said = [json.loads(line)["records"] for line in text.splitlines()]
            scores = [judge(asked, records) for records in said]
        except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
            says = f"what was said cannot be judged ({type(error).__name__}: {error})."
            yield Finding(check="judge", where=where, says=says)
            continue
        if scores != [dict(point.scores) for point in trace.points]:
            says = "its scores are not what the judges give for what was said."
            yield Finding(check="judge", where=where, says=says)
