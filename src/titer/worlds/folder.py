"""The user's own data: a folder with a ``data.yaml`` that names JSONL files for Fabula's roles.

The folder is hostile until it has passed: plain YAML, files inside the folder only, every line
checked, no overlap between the parties. All that is wrong is told at once. The format is described
in ``docs/reference/data-folder.md``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from titer.core import catalogue
from titer.core.data import Example, Hazard, Suite, Task, World
from titer.core.errors import BadInput, nearest
from titer.worlds._jsonl import Needs, Row, read_source
from titer.worlds._judged import asked_by, judges
from titer.worlds._schema import (
    FILE,
    MAX_BYTES,
    HazardFiles,
    Manifest,
    Refused,
    Source,
    TaskFiles,
    Utility,
    read,
)

__all__ = ["fetches", "load", "opened"]

SPLITS = ("defend", "attack", "select", "report")
_SHOWN = 5
"""Overlapping pairs that are told of two splits; the rest are counted."""


@dataclass
class _Reading:
    """What has been read so far, by role, and what was wrong with it."""

    folder: Path
    roles: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    faults: list[str] = field(default_factory=list[str])

    def take(
        self, role: str, sources: Sequence[Source] | Source | None, needs: Needs
    ) -> tuple[Example, ...]:
        """Read the sources of a role; a role may be named once only."""
        listed = [sources] if isinstance(sources, Source) else list(sources or ())
        rows = [row for one in listed for row in read_source(self.folder, one, needs, self.faults)]
        self.roles[role] = rows
        return tuple(row.example for row in rows)


def load(folder: str | os.PathLike[str]) -> World:
    """Read a data folder into a :class:`~titer.core.data.World`.

    Raises:
        BadInput: anything is wrong with ``data.yaml`` or a line of a file, ids are not unique, or
            what one party sees or a judge asks is seen by another; one sentence a fault, all
            faults together.
    """
    world, leaks = opened(folder)
    if leaks:
        raise BadInput(*leaks)
    return world


def opened(folder: str | os.PathLike[str]) -> tuple[World, list[str]]:
    """A data folder's world, and one sentence for each way in which its roles share lines.

    Raises:
        BadInput: anything else is wrong with it; then the sentences are among its faults.
    """
    root = Path(folder).expanduser()
    manifest = read(root)
    reading = _Reading(root)
    if isinstance(manifest, Refused):
        for number, source in enumerate(manifest.sources):
            reading.take(f"source {number}", source, Needs(keys=()))
        # The same file may be named for several roles.
        raise BadInput(*manifest.faults, *dict.fromkeys(reading.faults))
    reading.faults += _measure_faults(manifest)
    judged = judges(manifest, root, reading.faults)
    related, unrelated = _environments(reading, manifest)
    world = World(
        name=manifest.name,
        hazards={
            name: _hazard(reading, manifest, name, files)
            for name, files in manifest.hazards.items()
        },
        retain=reading.take("retain", manifest.retain, Needs()),
        related=related,
        unrelated=unrelated,
        utility={
            name: Suite(
                items=reading.take(f"utility.{name}", suite, _needs(suite.measure)),
                measure=suite.measure,
                chance=suite.chance,
            )
            for name, suite in manifest.utility.items()
        },
        tasks=_tasks(reading, manifest),
        over_refusal=reading.take("over_refusal", manifest.over_refusal, Needs(keys=())),
        harm=manifest.harm.measure,
        chance=manifest.harm.chance,
        also=tuple(manifest.harm.also),
        tokens=_tokens(manifest),
        references={name: source for name, source in manifest.references if source is not None},
        judges=judged,
    )
    reading.faults += _repeated_ids(reading.roles)
    leaks = [
        *_overlaps(reading.roles, list(manifest.hazards)),
        *_leaks(reading.roles),
        *_both_ways(reading.roles),
    ]
    if reading.faults:
        raise BadInput(*reading.faults, *leaks)
    return world, leaks


def fetches(folder: Path) -> bool:
    """Whether a data folder may name data of the hub."""
    path = folder.expanduser() / FILE
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"hub:" in file.read(MAX_BYTES)


def _hazard(reading: _Reading, manifest: Manifest, name: str, files: HazardFiles) -> Hazard:
    wanted = _needs(manifest.harm.measure)
    judged = Needs() if wanted.keys else wanted  # what is trained on always has an answer
    examples = {
        split: reading.take(
            f"hazards.{name}.{split}",
            getattr(files, split),
            judged if split in ("select", "report") else Needs(),
        )
        for split in SPLITS
    }
    for split in ("select", "report"):
        for key in wanted.keys:
            if examples[split] and not any(getattr(item, key) for item in examples[split]):
                reading.faults.append(
                    f"hazards.{name}.{split} has no line with {key!r}, which {wanted.why}."
                )
    return Hazard(**examples)


def _environments(
    reading: _Reading, manifest: Manifest
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Benign text near the hazard, and benign text far from it."""
    near: list[Example] = []
    far: list[Example] = []
    for name, one in manifest.environments.items():
        kept = near if one.near_hazard else far
        kept += reading.take(f"environments.{name}", one, Needs())
    return tuple(near), tuple(far)


def _tasks(reading: _Reading, manifest: Manifest) -> dict[str, Task]:
    return {
        name: Task(
            train=reading.take(f"tasks.{name}.train", task.train, Needs()),
            dev=Suite(
                items=reading.take(f"tasks.{name}.dev", task.dev, _needs(task.measure)),
                measure=task.measure,
                chance=task.chance,
            ),
            near_hazard=task.near_hazard,
        )
        for name, task in manifest.tasks.items()
    }


def _needs(measure: str) -> Needs:
    """What a measure needs of every item it judges. Those not named here, an answer."""
    why = f"the measure {measure} needs"
    known = measure in catalogue.names("measure")
    match measure:
        case "choice":
            return Needs(keys=("answer", "choices"), why=why)
        case _ if measure == "coherence" or (known and catalogue.target(measure) == "refusal"):
            return Needs(keys=(), why=why)
        case _:
            return Needs(why=why)


def _measure_faults(manifest: Manifest) -> Iterator[str]:
    inside = {one.name for one in catalogue.summaries("measure") if one.family == "inside"}
    known = [name for name in catalogue.names("measure") if name not in inside]
    for place, measures in asked_by(manifest).items():
        for measure in measures:
            if measure not in known:
                hint = nearest(measure, known)
                listed = ", ".join(known)
                yield f"data.yaml: {place} names no measure: {measure!r}.{hint} There are {listed}."
            elif fault := _upside_down(place, measure):
                yield fault
    spoken = {"harm": manifest.harm, **_roles(manifest)}
    for role, one in spoken.items():
        if one.tokens and one.measure in known and not catalogue.speaks(one.measure):
            yield (
                f"data.yaml: {role}.tokens is {one.tokens}, but the measure {one.measure} has the "
                "model choose and not speak; leave tokens out."
            )


def _roles(manifest: Manifest) -> dict[str, Utility | TaskFiles]:
    """What is asked of a model beside the hazard, by role."""
    return {
        **{f"utility.{name}": one for name, one in manifest.utility.items()},
        **{f"tasks.{name}": one for name, one in manifest.tasks.items()},
    }


def _tokens(manifest: Manifest) -> dict[str, int]:
    """The most tokens of an answer, by role, where the user says so."""
    roles = {"harm": manifest.harm, **_roles(manifest), "over_refusal": manifest.over_refusal}
    return {role: one.tokens for role, one in roles.items() if one and one.tokens}


def _upside_down(place: str, measure: str) -> str:
    """What is said of a measure whose larger scores are not more harm, or more use."""
    said = f"data.yaml: {place} is {measure!r}"
    use = "harm is what a model gives" if place.startswith("harm") else "use is what a model gives"
    match catalogue.card("measure", measure).direction:
        case "gives":
            return ""
        case "declines":
            until = (
                " (an older titer counted declining as harm here, and its results are upside down)"
                if place == "harm.measure"
                else ""
            )
            return (
                f"{said}, which is larger the more a model declines, and {use}{until}; write "
                "compliance, which is larger the more it gives of what was asked."
            )
        case "neither":
            giving = [
                name
                for name in catalogue.names("measure")
                if catalogue.card("measure", name).direction == "gives"
            ]
            return (
                f"{said}, whose card does not say that larger scores give more, and {use}; "
                f'choose {", ".join(giving)}, or give its card direction="gives".'
            )


def _repeated_ids(roles: Mapping[str, list[Row]]) -> Iterator[str]:
    """One line may serve two benign roles; two lines may not share an id."""
    seen: dict[str, tuple[str, Row]] = {}
    wrong: dict[str, list[str]] = {}
    for role, rows in roles.items():
        for row in rows:
            before, first = seen.setdefault(row.example.id, (role, row))
            told = wrong.setdefault(row.file, [])
            if first.place == row.place and first.example != row.example:
                told.append(
                    f"{row.place}: {before} and {role} read this line by different fields; "
                    "give each its own file."
                )
            elif first.place != row.place and not _siblings(before, role):
                told.append(
                    f"{row.place}: the id {row.example.id!r} was used at {first.place}; "
                    "ids are unique in all the data."
                )
    for file, told in wrong.items():
        yield from told[:_SHOWN]
        if len(told) > _SHOWN:
            yield f"{file} has {len(told) - _SHOWN:,} more ids that were used before."


def _siblings(one: str, other: str) -> bool:
    """Two splits of one hazard: they are compared in full by :func:`_overlaps`."""
    same = one.rpartition(".")[0] == other.rpartition(".")[0]
    return one.startswith("hazards.") and same and one != other


def _text(example: Example) -> str:
    """Prompt and answer without what is no difference: case, spacing, forms of one character."""
    text = unicodedata.normalize("NFKC", f"{example.prompt}\n{example.answer}")
    return " ".join(text.casefold().split())


def _overlaps(roles: Mapping[str, list[Row]], hazards: Sequence[str]) -> Iterator[str]:
    """The four splits of a hazard share no id, fact, entity or text."""
    for name in hazards:
        shared: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = {}
        for what in ("id", "fact", "entity", "text"):
            seen: dict[str, list[tuple[str, Row]]] = {}
            for split in SPLITS:
                for row in roles[f"hazards.{name}.{split}"]:
                    key = _text(row.example) if what == "text" else getattr(row.example, what)
                    if not key:
                        continue
                    firsts = seen.setdefault(key, [])
                    for other, first in firsts:
                        if other != split:
                            pairs = shared.setdefault((other, split), {})
                            said = what if what == "text" else f"{what} {key!r}"
                            pairs.setdefault((first.place, row.place), []).append(said)
                    if all(other != split for other, _ in firsts):
                        firsts.append((split, row))
        for (one, two), pairs in shared.items():
            told = [
                f"{a} and {b} share the {' and the '.join(what)}"
                for (a, b), what in list(pairs.items())[:_SHOWN]
            ]
            more = f", and so do {len(pairs) - _SHOWN:,} more pairs" * (len(pairs) > _SHOWN)
            yield f"hazards.{name}: {one} and {two} overlap: {'; '.join(told)}{more}."


def _both_ways(roles: Mapping[str, list[Row]]) -> Iterator[str]:
    """What is benign for a defence is no line of the hazard: it would be pulled both ways, and
    would be shown what the attacker trains on."""
    harmful = {
        _text(row.example): (role, row)
        for role, rows in roles.items()
        if role.startswith("hazards.") and role.endswith((".defend", ".attack"))
        for row in rows
    }
    found: dict[tuple[str, str], list[str]] = {}
    for role, rows in roles.items():
        trained = role == "retain" or role.startswith("environments.")
        if not trained and not (role.startswith("tasks.") and role.endswith(".train")):
            continue
        for row in rows:
            split, line = harmful.get(_text(row.example), ("", row))
            if split:
                found.setdefault((role, split), []).append(f"{row.place} is {line.place}")
    for (role, split), places in found.items():
        more = f", and {len(places) - _SHOWN:,} more" * (len(places) > _SHOWN)
        yield (
            f"{role} is benign and holds what {split} holds: "
            f"{'; '.join(places[:_SHOWN])}{more}; take the lines out of one of them."
        )


def _leaks(roles: Mapping[str, list[Row]]) -> Iterator[str]:
    """What a judge asks stands word for word in nothing that is trained on."""
    held: dict[str, tuple[str, Row]] = {}
    for role, rows in roles.items():
        if role.endswith((".select", ".report", ".dev")) or role.startswith("utility."):
            held.update((_text(row.example), (role, row)) for row in rows)
    found: dict[tuple[str, str], list[str]] = {}
    for role, rows in roles.items():
        if not role.endswith((".defend", ".attack", ".train")) and not role.startswith(
            ("retain", "environments.")
        ):
            continue
        for row in rows:
            judge, item = held.get(_text(row.example), ("", row))
            if judge and not _siblings(judge, role):
                found.setdefault((role, judge), []).append(f"{row.place} is {item.place}")
    for (role, judge), places in found.items():
        more = f", and {len(places) - _SHOWN:,} more" * (len(places) > _SHOWN)
        yield f"{role} trains on what {judge} asks: {'; '.join(places[:_SHOWN])}{more}."
