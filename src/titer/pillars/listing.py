"""The folder is the list: every module here with a ``PILLAR`` is a pillar of the table.

What a reader sees of a pillar, its title and its numbers, stands beside the statistics that make
them.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Literal

import titer.pillars

__all__ = ["Form", "Number", "Pillar", "listed"]

Form = Literal["score", "signed", "points", "ratio", "steps", "percent"]
"""How a number is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number of a pillar in the table: the field of its result, how it is called, how it is
    written, and what it says."""

    key: str
    title: str
    form: Form
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pillar:
    """A pillar of the table. ``place`` orders pillars, the lowest first."""

    title: str
    place: int
    numbers: tuple[Number, ...]


def listed() -> dict[str, Pillar]:
    """Every pillar by the name of its module, in the order of the table."""
    names = [one.name for one in pkgutil.iter_modules(titer.pillars.__path__)]
    modules = {name: importlib.import_module(f"titer.pillars.{name}") for name in names}
    found = {name: one.PILLAR for name, one in modules.items() if hasattr(one, "PILLAR")}
    return dict(sorted(found.items(), key=lambda pair: pair[1].place))
