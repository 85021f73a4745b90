"""What is written down of a study before it runs: its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from titer.core import catalogue
from titer.core.families import FAMILIES
from titer.core.study import Benign, Locks, Manifest, Row
from titer.grid.study import Experiment
from titer.grid.suite import SUITES, judges
from titer.trial.presets import checkpoints

__all__ = ["describe", "modernise"]


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
        harm=study.world.harm,
        chance=study.world.chance,
        utility={name: suite.chance for name, suite in study.world.utility.items()},
        subjects=study.subjects,
        seeds=study.seeds,
        checkpoints=checkpoints(_longest(study)),
        not_tested=tuple(_left_out(study)),
        locks=_locks(study) if study.suite.controls else None,
        domains=(study.domain, *(d for d in study.world.hazards if d != study.domain)),
        tasks=tuple(
            Benign(name=name, near_hazard=study.world.tasks[name].near_hazard)
            for name in study.tasks or tuple(study.world.tasks)
        ),
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
