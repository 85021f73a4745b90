"""Models and worlds by their places, loaded once a process: no trial changes what it is given."""

from __future__ import annotations

from functools import lru_cache

from titer.core.data import World
from titer.core.lm import LM
from titer.nn.interface import through
from titer.nn.locked import relock
from titer.worlds.source import load_world

__all__ = ["load_model", "load_named_world"]


@lru_cache(maxsize=2)
def load_model(folder: str, interface: str = "") -> LM:
    """The model in a folder, with the lock that came with it; where ``interface`` is the folder of
    another, behind the tokenizer, template and configuration of that one.

    Raises:
        BadInput: it cannot be loaded.
    """
    lm = LM.load(folder)
    return relock(through(lm, LM.load(interface)) if interface else lm)


@lru_cache(maxsize=2)
def load_named_world(source: str) -> World:
    """The world by the name a user writes.

    Raises:
        BadInput: there is no such world.
    """
    return load_world(source)
