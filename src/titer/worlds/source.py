"""A world by the name a user writes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from titer.core.data import World
from titer.core.errors import BadInput, nearest
from titer.core.records import Target
from titer.core.trying import tried

__all__ = [
    "ALMANAC",
    "PLAIN",
    "aimed",
    "find_world",
    "load_world",
    "open_world",
    "salted",
    "world_salt",
    "world_seed",
]

PLAIN = "plain"
"""The salt that deals nothing anew: the splits as they are published."""

ALMANAC = "almanac"
"""The world of real public knowledge, whose items are published with it and never dealt anew."""

_REFUSING = "fabula+refusal"
_SALT = re.compile(r"[0-9a-z]{1,32}")


def load_world(source: str) -> World:
    """``fabula`` or ``fabula+refusal``, either with ``#SEED`` and then ``~SALT`` after it,
    ``almanac``, a folder with a ``data.yaml``, or a public set (:mod:`titer.worlds.public`).

    Raises:
        BadInput: no such world, or a folder with faults, all of them named.
    """
    if (seed := world_seed(source)) is not None:
        from titer.worlds.fabula import fabula

        salt = world_salt(source)
        target: Target = "refusal" if _parted(source)[0] == _REFUSING else "knowledge"
        return replace(fabula(seed, "" if salt == PLAIN else salt, target), source=source)
    if source == ALMANAC:
        from titer.worlds.almanac import almanac

        return almanac()
    # A folder is taken before a set of its name.
    if not Path(source).exists():
        from titer.worlds import public

        if public.asked(source) is not None:
            return replace(public.load(source), source=source)
        near = nearest(source, (*public.names(), ALMANAC))
        raise BadInput(
            f"there is no data folder {source!r}.{near} Give a folder with a data.yaml, fabula, "
            f"{ALMANAC}, or one of `titer list data`."
        )
    from titer.worlds.folder import fetches, load

    # A line to the hub takes as long as it takes, and brings no more than its rows.
    if not fetches(Path(source)):
        tried(lambda: load(Path(source)) and None, f"the data {source}")
    return replace(load(Path(source)), source=source)


def open_world(source: str) -> World:
    """As :func:`load_world`, but a folder whose roles share lines is opened all the same: for
    whoever wants to look at them.

    Raises:
        BadInput: no such world, or faults of another kind.
    """
    if world_seed(source) is None and Path(source).is_dir():
        from titer.worlds.folder import opened

        return replace(opened(Path(source))[0], source=source)
    return load_world(source)


def find_world(source: str, digest: str) -> World | None:
    """The world of a study, where it can still be read and is the same; None elsewhere."""
    try:
        world = load_world(source) if source else None
    except (BadInput, OSError):
        return None
    return world if world and world.digest() == digest else None


def world_seed(source: str) -> int | None:
    """The seed of a testbed world's name, None for all else.

    Raises:
        BadInput: a seed that is no whole number.
    """
    name, seed = _parted(source)
    if name not in ("fabula", _REFUSING):
        return None
    seed = seed or "0"
    if not (seed.isascii() and seed.isdecimal()):
        raise BadInput(f"the world {source!r} has a seed that is no number; write fabula#3.")
    return int(seed)


def _parted(source: str) -> tuple[str, str]:
    """Name and seed of what may be a testbed world."""
    name, _, seed = source.partition("~")[0].partition("#")
    return name, seed


def aimed(source: str, target: Target | None) -> str:
    """The name of a testbed world in which harm is what a target says; that of a folder is its own,
    as its ``data.yaml`` says what harm is."""
    if target != "refusal" or _parted(source)[0] != "fabula":
        return source
    return _REFUSING + source.removeprefix("fabula")


def world_salt(source: str) -> str:
    """The salt of a testbed world's name, which deals its report entities; empty where it has none.

    Raises:
        BadInput: a salt of other letters than a to z and digits, or a long one.
    """
    _, marked, salt = source.partition("~")
    if marked and not _SALT.fullmatch(salt):
        raise BadInput(
            f"the world {source!r} has a salt that is none; write 1 to 32 digits and letters from "
            f"a to z, as in fabula~7f3a, or fabula~{PLAIN}."
        )
    return salt


def salted(source: str, salt: str) -> str:
    """The name of a testbed world with its report entities dealt by a salt."""
    return f"{source}~{salt}"
