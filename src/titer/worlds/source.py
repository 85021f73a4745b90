"""A world by the name a user writes."""

from __future__ import annotations

from pathlib import Path

from titer.core.data import World
from titer.core.errors import BadInput

__all__ = ["load_world"]


def load_world(source: str) -> World:
    """``fabula``, ``fabula#SEED``, or a folder with a ``data.yaml``.

    Raises:
        BadInput: no such world, or a folder with faults, all of them named.
    """
    if source == "fabula" or source.startswith("fabula#"):
        from titer.worlds.fabula import fabula

        seed = source.partition("#")[2] or "0"
        if not seed.isdecimal():
            raise BadInput(f"the world {source!r} has a seed that is no number; write fabula#3.")
        return fabula(int(seed))
    if not Path(source).exists():
        raise BadInput(
            f"there is no data folder {source!r}; give a folder with a data.yaml, or fabula."
        )
    from titer.worlds.folder import load

    return load(Path(source))
