"""What a run folder says of its study: its manifest, and the config that holds it.

The config is written before anything runs, and read by everyone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from titer.core import catalogue
from titer.core.codec import from_json
from titer.core.data import World
from titer.core.errors import BadInput
from titer.core.families import FAMILIES
from titer.core.files import require_regular, write_atomic
from titer.core.reading import load_yaml
from titer.core.study import Benign, Locks, Manifest, Row
from titer.plan.experiment import Experiment
from titer.plan.suite import judges, refuse_retired
from titer.plan.suites import SUITES
from titer.trial.presets import checkpoints

__all__ = [
    "CLAIMS",
    "FORMAT",
    "STUDY",
    "Config",
    "claim_folder",
    "describe",
    "modernise",
    "read_config",
    "write_config",
]

FORMAT = 1
"""The version of the folder layout; folders of another are refused, not guessed at."""

CLAIMS = ".claims"
"""Where the processes that fill a run folder say who does what; it goes when the last of them
does."""

STUDY = "study.yaml"
"""What was asked, which makes the study again; folders of older versions have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A run folder's study, the command that makes it again, and the day it was begun."""

    format: int
    created: str = ""
    command: str
    study: Manifest


def read_config(root: Path) -> Config:
    """What a run folder's config says.

    Raises:
        BadInput: there is no run folder, it is of another layout, or its config is damaged.
    """
    path = root / "config.yaml"
    raw = _raw(root)
    if isinstance(raw, dict) and raw.get("format", FORMAT) != FORMAT:
        raise BadInput(
            f"{path} is of format {raw.get('format')!r}, and this version of titer reads {FORMAT}; "
            "read it with the version of titer that wrote it."
        )
    if isinstance(raw, dict):
        refuse_retired(root, raw)
    try:
        if not isinstance(raw, dict) or not isinstance(raw.get("study"), dict):
            raise BadInput("it describes no study.")
        found = from_json(Config, raw, "config")
        study = found.study
        if [one.role for one in study.models].count("undefended") != 1:
            raise BadInput("its models are not one undefended and others.")
        if not study.rows:
            raise BadInput("it has no rows.")
    except BadInput as error:
        told = error.faults[0].rstrip(".")
        raise BadInput(f"{path} is damaged: {told}; copy the folder again.") from None
    return replace(found, study=modernise(study))


def _raw(root: Path) -> Any:
    path = root / "config.yaml"
    if not path.is_file():
        raise BadInput(f"{root} is no run folder (it has no config.yaml); `titer bench` makes one.")
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is damaged: it is no text; copy the folder again.") from None
    except ValueError as error:
        first = (str(error).splitlines() or ["it is no YAML"])[0]
        raise BadInput(f"{path} is damaged: {first}; copy the folder again.") from None


def write_config(
    root: Path, study: Manifest, command: str, created: str, *, shared: bool = False
) -> None:
    """Write a run folder's config, whole or not at all; the day it was begun stays. ``shared``
    where other processes are at work in it.

    Raises:
        BadInput: they run another study.
    """
    if (root / "config.yaml").exists():
        found = read_config(root)
        if shared and _written(found.study) != _written(modernise(study)):
            raise BadInput(
                f"{root} is being filled by another process with another study; wait for it, or "
                "choose another --out."
            )
        created = found.created or created
    content = {"format": FORMAT, "created": created, "command": command, "study": study.to_json()}
    write_atomic(root / "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _written(study: Manifest) -> str:
    return json.dumps(study.to_json(), sort_keys=True)


def claim_folder(root: Path, suite: str) -> None:
    """Make sure that a run folder is new or belongs to this suite.

    Raises:
        BadInput: it holds results of another suite version or layout, or is something else.
    """
    if not (root / "config.yaml").exists():
        # Immunised models and claims come before the first trial and the config.
        found = {path.name for path in root.iterdir()} if root.exists() else set[str]()
        if found - {CLAIMS} and "models" not in found:
            raise BadInput(
                f"{root} exists and is no run folder; choose another --out or an empty folder."
            )
        return
    require_regular(root)
    found = read_config(root).study
    if found.suite_hash != suite:
        raise BadInput(
            f"{root} holds results of suite {found.suite}-{found.suite_version} "
            f"({found.suite_hash}), and this run is {suite}; results of two suites never mix, so "
            "choose another --out."
        )


# -- the manifest itself ---------------------------------------------------------------------------


def describe(study: Experiment) -> Manifest:
    """All that a verdict must know of a study beyond its traces."""
    return Manifest(
        suite=study.suite.name,
        suite_version=study.suite.version,
        suite_hash=study.suite_digest,
        suite_settings=study.suite.settings(),
        rows=tuple(_rows(study)),
        world=study.world.name,
        world_source=study.source,
        world_digest=study.world_digest,
        judges=tuple(judges(study.world)),
        judged_by={name: dict(one.settings) for name, one in study.world.judges.items()},
        harm=study.world.harm,
        chance=study.world.chance,
        utility={name: suite.chance for name, suite in study.world.utility.items()},
        subjects=study.subjects,
        seeds=study.seeds,
        checkpoints=checkpoints(_longest(study)),
        not_tested=(*_left_out(study), *_unasked(study.world)),
        locks=_locks(study) if study.suite.controls else None,
        domains=(study.domain, *(d for d in study.world.hazards if d != study.domain)),
        tasks=tuple(
            Benign(name=name, near_hazard=study.world.tasks[name].near_hazard)
            for name in study.tasks or tuple(study.world.tasks)
        ),
        disjoint=study.world.hazards[study.domain].disjoint(),
        unasked=study.world.unasked,
        notes=study.world.notes,
    )


def _rows(study: Experiment) -> Iterator[Row]:
    for row in study.rows():
        method, preset = row.preset()
        yield Row(
            id=row.id,
            title=preset.title,
            family=preset.family or catalogue.card("attack", method).family,
            source=preset.source,
            mandatory=row.mandatory,
            star=preset.star,
        )


def _locks(study: Experiment) -> Locks:
    """The controls that must break, and for each model the one that it is without its lock."""
    families = {one.name: one.family for one in catalogue.summaries("defence")}
    bare = study.undefended().name
    unlocked: dict[str, str] = {}

    def without(text: str) -> tuple[str, ...]:
        return tuple(s for s in text.split("+") if s != "none" and families.get(s) != "lock")

    whole = {without(one.defence): one.name for one in study.subjects if one.defence}
    # Of two alike the suite's own: its weights are the very ones that its controls lock.
    whole |= {without(text): text for text in (study.suite.unlocked,) if text}
    for subject in study.subjects:
        if subject.role in ("defended", "control") and subject.share is None:
            locked = any(families.get(stage) == "lock" for stage in subject.defence.split("+"))
            rest = without(subject.defence)
            unlocked[subject.name] = whole.get(rest, bare) if locked and rest else bare
    return Locks(controls=study.suite.controls, unlocked=unlocked)


def _longest(study: Experiment) -> int:
    size = study.undefended().parameters
    return max((study.suite.steps(row, size) for row in study.rows()), default=0)


def _left_out(study: Experiment) -> list[str]:
    """Rows in the catalogue that this suite leaves out, in one phrase."""
    inside = {row.of or row.id for row in study.rows()}
    known = set(catalogue.presets("attack"))
    outside = len(known - inside)
    found = [f"{outside} of the catalogue's {len(known)} rows"] if outside else []
    if study.suite.cap is not None:
        found.append(f"budgets beyond {study.suite.cap:,} steps")
    return [*found, *_families_left_out(_rows(study))]


def _unasked(world: World) -> list[str]:
    """What the data cannot answer."""
    return [f"{pillar} (not askable: {why})" for pillar, why in world.unasked.items()]


def _families_left_out(rows: Iterable[Row]) -> list[str]:
    inside = {row.family for row in rows}
    return [phrase for family, phrase in FAMILIES.items() if family not in inside]


def modernise(study: Manifest) -> Manifest:
    """A manifest as it is written today. Until 0.1.0 a row had its method's family, and families
    that a suite leaves out were not written down."""
    own = catalogue.families("attack")
    known = SUITES[study.suite].rows if study.suite in SUITES else ()
    of = {row.id: own.get(row.of or row.id, "") for row in known}
    rows = tuple(
        row
        if row.family in FAMILIES
        else replace(row, family=of.get(row.id) or own.get(row.id) or row.family)
        for row in study.rows
    )
    if rows == study.rows:
        return study
    outside = _families_left_out(rows)
    return replace(study, rows=rows, not_tested=(*study.not_tested, *outside))
