"""Public data sets by name: what there is, what it takes, and a world made of it.

``wmdp-bio`` is read from the Hub's cache or fetched, at the commit that its file names;
``wmdp-bio=FOLDER`` from files that were fetched elsewhere; ``wmdp-bio@COMMIT`` at another commit.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from titer.core.data import World
from titer.core.errors import BadInput, UnknownName, nearest
from titer.worlds.datasets._deal import cleaned
from titer.worlds.datasets._fetch import Plan, places, plan
from titer.worlds.datasets._published import Published, Tally
from titer.worlds.datasets._read import rows

__all__ = ["Asked", "asked", "fetch", "find", "load", "names", "planned"]

_NAMED = re.compile(r"(?P<name>[a-z0-9][a-z0-9\-]*)(?:@(?P<commit>[^=]*))?(?:=(?P<folder>.+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A set, and the folder its files are in, if they are not the cache's."""

    published: Published
    folder: Path | None = None


@cache
def _sets() -> dict[str, Published]:
    folder = Path(__file__).parent / "datasets"
    found = [
        one
        for path in sorted(folder.glob("*.py"))
        if not path.stem.startswith("_")
        for one in importlib.import_module(f"titer.worlds.datasets.{path.stem}").SETS
    ]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def names() -> list[str]:
    """Every set, in alphabetical order; nothing is fetched."""
    return list(_sets())


def find(name: str) -> Published:
    """What is known of a set.

    Raises:
        UnknownName: no such set; the message names the nearest.
    """
    if name not in _sets():
        raise UnknownName(
            f"no data set named {name!r}.{nearest(name, _sets())} `titer list data` prints all "
            f"{len(_sets())}."
        )
    return _sets()[name]


def asked(source: str) -> Asked | None:
    """What ``NAME``, ``NAME@COMMIT`` or ``NAME=FOLDER`` asks for; None where NAME is no set.

    Raises:
        BadInput: a commit that is none.
    """
    match = _NAMED.fullmatch(source)
    if match is None or match["name"] not in _sets():
        return None
    found = _sets()[match["name"]]
    if match["commit"] is not None:
        found = found.at(match["commit"])
    folder = Path(match["folder"]).expanduser() if match["folder"] else None
    return Asked(published=found, folder=folder)


def planned(source: str) -> Plan:
    """What of a set is here, and what would be fetched from where.

    Raises:
        BadInput: no such set, no pinned commit, or a folder that lacks a file.
    """
    one = _require(source)
    return plan(one.published, one.folder)


def fetch(source: str) -> dict[str, Path]:
    """Where every file of a set lies, once those that are not here are fetched.

    Raises:
        BadInput: see :func:`load`.
    """
    one = _require(source)
    return places(one.published, one.folder)


def load(source: str) -> World:
    """The world of a set: mapped, dealt, and cleared of near-duplicates over all roles.

    Raises:
        BadInput: a file is not here and cannot be had, is not what was published, or the set only
            stands beside others.
    """
    one = _require(source)
    published = one.published
    if published.build is None:
        raise BadInput(
            f"{published.name} holds no hazard and stands beside other sets "
            f"(`titer card data {published.name}`); name one that has, or make it a role of your "
            "own folder."
        )
    tables = {
        name: rows(path, published.tables[name])
        for name, path in places(published, one.folder).items()
    }
    tally = Tally()
    world = cleaned(published.build(tables, tally), tally)
    _require_whole(world, published)
    licences = dict.fromkeys(f"{one.repo}: {one.licence}" for one in published.sources())
    bound = [one.repo for one in published.sources() if not one.commercial]
    return replace(
        world,
        unasked=dict(published.unasked),
        notes=(
            *([f"splits of {world.name}: {published.facts}"]),
            *tally.said(),
            *([f"no commercial use: {', '.join(bound)}"] if bound else []),
            f"licences: {'; '.join(licences)}",
        ),
    )


def _require_whole(world: World, published: Published) -> None:
    """Nothing that a study needs may come out empty."""
    empty = [
        role
        for role, found in world.roles()
        if not found and (role.startswith("hazards.") or role == "retain")
    ]
    if empty:
        raise BadInput(
            f"{published.name}: nothing is left for {', '.join(empty)}; the files are not what was "
            "published, or a commit has another layout."
        )


def _require(source: str) -> Asked:
    one = asked(source)
    if one is None:
        name = re.split("[@=]", source, maxsplit=1)[0]
        find(name)
        raise BadInput(f"{source!r}: write NAME, NAME@COMMIT or NAME=FOLDER.")
    return one
