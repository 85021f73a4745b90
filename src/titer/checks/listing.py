"""The folder is the list: ``checks/s09_optimiser.py`` *is* check S9.

A check's module holds ``CHECK``, what it asks; ``read``, its answer from a case; where it needs
trials beside the attacks ``trials``, which ones; and where its answer hangs on the known-broken
controls of the study ``settle``, the answer once it is known whether they were caught.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import titer.checks
from titer.checks.case import Case, Check, Finding, Found
from titer.checks.wanted import Ground, Wanted

__all__ = ["Listed", "listed"]

_NAME = re.compile(r"s\d+_\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A check as its file has it."""

    check: Check
    read: Callable[[Case], Found]
    trials: Callable[[Ground], Iterator[Wanted]] | None = None
    settle: Callable[[Finding, bool], Finding] | None = None


def listed() -> tuple[Listed, ...]:
    """Every check, in the order of their numbers."""
    names = [one.name for one in pkgutil.iter_modules(titer.checks.__path__)]
    found = [_read(name) for name in names if _NAME.fullmatch(name)]
    return tuple(sorted(found, key=lambda one: int(one.check.id.removeprefix("S"))))


def _read(name: str) -> Listed:
    module: Any = importlib.import_module(f"{titer.checks.__name__}.{name}")
    return Listed(
        check=module.CHECK,
        read=module.read,
        trials=getattr(module, "trials", None),
        settle=getattr(module, "settle", None),
    )
