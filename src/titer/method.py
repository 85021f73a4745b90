"""The names that methods are written with: ``from titer.method import LM, BadInput, Card, Run``."""

from titer.core.errors import BadInput, Diverged
from titer.core.insides import Column, Reader, Shown, Table
from titer.core.lm import LM, Encoded, Template
from titer.core.method import Case, Run, seed_for
from titer.core.records import TWO_PHASES, Budget, Card, Estimate, Preset, Reading

__all__ = [
    "LM",
    "TWO_PHASES",
    "BadInput",
    "Budget",
    "Card",
    "Case",
    "Column",
    "Diverged",
    "Encoded",
    "Estimate",
    "Preset",
    "Reader",
    "Reading",
    "Run",
    "Shown",
    "Table",
    "Template",
    "seed_for",
]
