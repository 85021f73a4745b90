"""The checks S1 to S21: may the attacks be believed?"""

from __future__ import annotations

from dataclasses import dataclass

from titer.checks.case import Finding
from titer.report.models import in_order
from titer.report.numbers import DASH, number, tidy
from titer.report.section import Section
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "CheckLine", "Checks", "data"]

SECTION = Section(title="Checks", after="untested", nav="Checks")


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One check, and for each model its flag, number and reason."""

    check: Finding
    cells: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Checks:
    """The models that were examined, and a line a check."""

    models: tuple[ModelVerdict, ...]
    lines: tuple[CheckLine, ...]


def data(verdict: Verdict) -> Checks | None:
    """A line a check, a cell a model that was examined."""
    models = tuple(model for model in in_order(verdict) if model.checks)
    known = {name: check for model in models for name, check in model.checks.items()}
    lines = tuple(
        CheckLine(known[name], tuple(_cell(model.checks.get(name)) for model in models))
        for name in known
    )
    return Checks(models, lines) if lines else None


def _cell(found: Finding | None) -> tuple[str, str, str]:
    if found is None:
        return "not run", DASH, ""
    return found.flag, number(found.statistic), tidy(found.reason)
