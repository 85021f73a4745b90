"""Records, the method protocol and the catalogue: the words every other room uses."""

from titer.core.data import Data, Example, Hazard, Scope, Suite, Task, World
from titer.core.errors import BadInput, BudgetExceeded, Diverged, TiterError, UnknownName
from titer.core.records import Budget, Card, Estimate, Part, Point, Preset, Spent, Trace, Trial

__all__ = [
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
    "Scope",
    "Spent",
    "Suite",
    "Task",
    "TiterError",
    "Trace",
    "Trial",
    "UnknownName",
    "World",
]
