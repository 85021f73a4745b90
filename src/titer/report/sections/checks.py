"""The checks S1 to S23: may the attacks be believed?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from titer.checks.case import Finding
from titer.report.models import in_order
from titer.report.numbers import DASH, number, tidy
from titer.report.section import Screen, Section
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "CheckLine", "Checks", "data", "terminal"]

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


def terminal(rows: Checks, screen: Screen) -> Iterator[RenderableType]:
    """A line for each flag that a check raised: its id, what it asks, on which model, and why."""
    for line in rows.lines:
        for model, (flag, shown, reason) in zip(rows.models, line.cells, strict=True):
            if flag in _RAISED:
                asked = f"check {line.check.id} ({tidy(line.check.question)})"
                why = f": {reason}" if reason else ""
                yield Text(f"{asked}: {flag} on {tidy(model.name)}{why} [{shown}]", style="yellow")


_RAISED = ("suspect", "void")


def _cell(found: Finding | None) -> tuple[str, str, str]:
    if found is None:
        return "not run", DASH, ""
    return found.flag, number(found.statistic), tidy(found.reason)
