"""Records, the method protocol and the catalogue: the words every other room uses."""

from typing import TYPE_CHECKING

from titer.core.data import Data, Example, Hazard, Scope, Suite, Task, World
from titer.core.errors import BadInput, BudgetExceeded, Diverged, TiterError, UnknownName
from titer.core.lazy import lazily
from titer.core.records import Budget, Card, Estimate, Part, Point, Preset, Spent, Trace, Trial

if TYPE_CHECKING:
    from titer.core.catalogue import build, card, names
    from titer.core.lm import LM
    from titer.core.method import Run

__all__ = [
    "LM",
    "BadInput",
    "Budget",
    "BudgetExceeded",
    "Card",
    "Data",
    "Diverged",
    "Estimate",
    "Example",
    "Hazard",
    "Part",
    "Point",
    "Preset",
    "Run",
    "Scope",
    "Spent",
    "Suite",
    "Task",
    "TiterError",
    "Trace",
    "Trial",
    "UnknownName",
    "World",
    "build",
    "card",
    "names",
]

__getattr__ = lazily(
    __name__,
    {
        "catalogue": "build card names",
        "lm": "LM",
        "method": "Run",
    },
)
