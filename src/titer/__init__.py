"""titer: immunise open-weight language models, and measure immunity.

What stands in ``__all__`` is public. Each name is fetched when it is first asked for, so that
``import titer`` loads neither torch nor anything else that is slow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titer.api import attack, bench, immunise, read, world
    from titer.conformance import check as check_method
    from titer.core.catalogue import card
    from titer.core.catalogue import summaries as methods
    from titer.core.data import Hazard, World
    from titer.core.errors import BadInput
    from titer.core.lm import LM
    from titer.core.method import Run
    from titer.core.records import Budget, Card, Preset, Trace
    from titer.core.study import Study
    from titer.models import load
    from titer.verdict.parts import Verdict

__version__ = "0.1.0"

__all__ = [
    "LM",
    "BadInput",
    "Budget",
    "Card",
    "Hazard",
    "Preset",
    "Run",
    "Study",
    "Trace",
    "Verdict",
    "World",
    "attack",
    "bench",
    "card",
    "check_method",
    "immunise",
    "load",
    "methods",
    "read",
    "world",
]

_HOMES = {
    "LM": ("core.lm", "LM"),
    "BadInput": ("core.errors", "BadInput"),
    "Budget": ("core.records", "Budget"),
    "Card": ("core.records", "Card"),
    "Hazard": ("core.data", "Hazard"),
    "Preset": ("core.records", "Preset"),
    "Run": ("core.method", "Run"),
    "Study": ("core.study", "Study"),
    "Trace": ("core.records", "Trace"),
    "Verdict": ("verdict.parts", "Verdict"),
    "World": ("core.data", "World"),
    "attack": ("api", "attack"),
    "bench": ("api", "bench"),
    "card": ("core.catalogue", "card"),
    "check_method": ("conformance", "check"),
    "immunise": ("api", "immunise"),
    "load": ("models", "load"),
    "methods": ("core.catalogue", "summaries"),
    "read": ("api", "read"),
    "world": ("api", "world"),
}
"""Where each public name lives, and what it is called there."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'titer' has no attribute {name!r}")
    module, there = _HOMES[name]
    found = getattr(importlib.import_module(f"titer.{module}"), there)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
