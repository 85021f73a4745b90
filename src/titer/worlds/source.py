"""A world by the name a user writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from titer.core.data import World
from titer.core.errors import BadInput

__all__ = ["find_world", "load_world", "world_seed"]


def load_world(source: str) -> World:
    """``fabula``, ``fabula#SEED``, or a folder with a ``data.yaml``.

    Raises:
        BadInput: no such world, or a folder with faults, all of them named.
    """
    if (seed := world_seed(source)) is not None:
        from titer.worlds.fabula import fabula

        return replace(fabula(seed), source=source)
    if not Path(source).exists():
        raise BadInput(
            f"there is no data folder {source!r}; give a folder with a data.yaml, or fabula."
        )
    from titer.worlds.folder import load

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
    name, _, seed = source.partition("#")
    if name != "fabula":
        return None
    seed = seed or "0"
    if not (seed.isascii() and seed.isdecimal()):
        raise BadInput(f"the world {source!r} has a seed that is no number; write fabula#3.")
    return int(seed)
