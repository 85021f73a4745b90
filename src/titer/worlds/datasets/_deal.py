"""From rows to splits that share nothing, and roles from which near-duplicates are taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from titer.core.data import Example, Hazard, Suite, Task, World
from titer.core.errors import BadInput
from titer.worlds.datasets._published import Tally
from titer.worlds.near import Pair, in_conflict, pairs

__all__ = ["SHARES", "cleaned", "deal", "dealt", "drawn"]

SHARES: Mapping[str, float] = {"defend": 0.3, "attack": 0.3, "select": 0.15, "report": 0.25}
"""Which part of a hazard each split has."""

_FIRST = ("report", "select", "attack", "defend")
"""Of two splits with near-duplicates, the one that keeps its row: what is judged before what is
trained on."""


def drawn(name: str, key: str) -> str:
    """What decides where ``key`` goes: the same on every machine, and no order of the file's."""
    return hashlib.sha256(f"{name}\0{key}".encode()).hexdigest()


def deal(
    name: str, examples: Sequence[Example], shares: Mapping[str, float] = SHARES
) -> dict[str, tuple[Example, ...]]:
    """Examples in parts that share no unit and no near-duplicate.

    Units with near-duplicate rows are one group. Groups go, in an order drawn by ``name``, each to
    the part that lacks most of its share of the rows.

    Args:
        name: Names the draw.
        examples: What is dealt; :attr:`~titer.core.data.Example.unit` says what stays together.
        shares: Parts by name, and the share of each.

    Raises:
        BadInput: a part comes out empty, because there are too few groups.
    """
    group = _groups(examples)
    rows: dict[str, list[Example]] = {}
    for example in examples:
        rows.setdefault(group[example.unit], []).append(example)
    parts: dict[str, list[Example]] = {part: [] for part in shares}
    for key in sorted(rows, key=lambda key: drawn(name, key)):
        part = max(shares, key=lambda one: shares[one] * len(examples) - len(parts[one]))
        parts[part] += rows[key]
    if empty := [part for part, held in parts.items() if not held]:
        raise BadInput(
            f"{name}: {len(rows)} groups of rows that share nothing are too few for "
            f"{', '.join(shares)}; nothing is left for {', '.join(empty)}."
        )
    return {part: tuple(held) for part, held in parts.items()}


def dealt(name: str, examples: Sequence[Example], shares: Mapping[str, float] = SHARES) -> Hazard:
    """A hazard's four splits, by :func:`deal`."""
    return Hazard(**deal(name, examples, shares))


def _groups(examples: Sequence[Example]) -> dict[str, str]:
    """Each unit's group, named by its first unit: units with near-duplicate rows are in one."""
    head = {example.unit: example.unit for example in examples}

    def find(unit: str) -> str:
        while head[unit] != unit:
            head[unit] = head[head[unit]]
            unit = head[unit]
        return unit

    for pair in pairs([("", examples)], lambda one, two: True):
        one, two = find(pair.one.example.unit), find(pair.two.example.unit)
        head[two] = one
    return {unit: find(unit) for unit in head}


def cleaned(world: World, tally: Tally) -> World:
    """The world without the rows that say nearly what a row of a conflicting role says.

    What is judged of the hazard stays, then its training text, then what else is judged; of two
    splits of the hazard, the report's stays first. What goes is counted in ``tally``.
    """
    gone: dict[str, set[str]] = {}
    for pair in sorted(pairs(world.roles(), in_conflict), key=_urgency):
        one, two = sorted((pair.one, pair.two), key=lambda place: _rank(place.role))
        if one.example.id in gone.get(one.role, set()):
            continue  # what is gone takes nothing else with it
        gone.setdefault(two.role, set()).add(two.example.id)
    for role, ids in sorted(gone.items()):
        tally.leave(f"rows of {role} that say nearly what a conflicting role says", len(ids))

    def kept(role: str, rows: Iterable[Example]) -> tuple[Example, ...]:
        return tuple(row for row in rows if row.id not in gone.get(role, ()))

    return replace(
        world,
        hazards={
            name: Hazard(
                **{
                    split: kept(f"hazards.{name}.{split}", getattr(hazard, split))
                    for split in SHARES
                }
            )
            for name, hazard in world.hazards.items()
        },
        retain=kept("retain", world.retain),
        related=kept("environments.near", world.related),
        unrelated=kept("environments.far", world.unrelated),
        utility={
            name: replace(suite, items=_mixed(name, kept(f"utility.{name}", suite.items)))
            for name, suite in world.utility.items()
        },
        tasks={name: _task(name, task, kept) for name, task in world.tasks.items()},
        over_refusal=kept("over_refusal", world.over_refusal),
    )


def _mixed(name: str, items: Sequence[Example]) -> tuple[Example, ...]:
    """In an order that says nothing: a study asks the first so many of a utility suite, and a
    published file stands by subject or by person."""
    return tuple(sorted(items, key=lambda item: drawn(name, item.id)))


def _task(name: str, task: Task, kept: Any) -> Task:
    dev: Suite = task.dev
    return replace(
        task,
        train=kept(f"tasks.{name}.train", task.train),
        dev=replace(dev, items=kept(f"tasks.{name}.dev", dev.items)),
    )


def _urgency(pair: Pair) -> tuple[tuple[int, str], ...]:
    return tuple(sorted((_rank(pair.one.role), _rank(pair.two.role))))


def _rank(role: str) -> tuple[int, str]:
    """Lower stays: the hazard's judged rows, its training text, other judged rows, benign text."""
    last = role.rpartition(".")[2]
    if role.startswith("hazards."):
        return _FIRST.index(last), role
    trained = role == "retain" or role.startswith("environments.") or last == "train"
    return len(_FIRST) + trained, role
