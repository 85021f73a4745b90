"""A world by the name a user writes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from titer.core.data import World
from titer.core.errors import BadInput
from titer.core.trying import tried

__all__ = ["PLAIN", "find_world", "load_world", "salted", "world_salt", "world_seed"]

PLAIN = "plain"
"""The salt that deals nothing anew: the splits as they are published."""

_SALT = re.compile(r"[0-9a-z]{1,32}")


def load_world(source: str) -> World:
    """``fabula``, ``fabula#SEED``, either with ``~SALT`` after it, or a folder with a
    ``data.yaml``.

    Raises:
        BadInput: no such world, or a folder with faults, all of them named.
    """
    if (seed := world_seed(source)) is not None:
        from titer.worlds.fabula import fabula

        salt = world_salt(source)
        return replace(fabula(seed, "" if salt == PLAIN else salt), source=source)
    if not Path(source).exists():
        raise BadInput(
            f"there is no data folder {source!r}; give a folder with a data.yaml, or fabula."
        )
    from titer.worlds.folder import fetches, load

    # A line to the hub takes as long as it takes, and brings no more than its rows.
    if not fetches(Path(source)):
        tried(lambda: load(Path(source)) and None, f"the data {source}")
    return replace(load(Path(source)), source=source)


def find_world(source: str, digest: str) -> World | None:
    """The world of a study, where it can still be read and is the same; None elsewhere."""
    try:
        world = load_world(source) if source else None
    except (BadInput, OSError):
        return None
    return world if world and world.digest() == digest else None


def world_seed(source: str) -> int | None:
    """The seed of a testbed world's name, None for a folder.

    Raises:
        BadInput: a seed that is no whole number.
    """
    name, _, seed = source.partition("~")[0].partition("#")
    if name != "fabula":
        return None
    seed = seed or "0"
    if not (seed.isascii() and seed.isdecimal()):
        raise BadInput(f"the world {source!r} has a seed that is no number; write fabula#3.")
    return int(seed)


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
