"""Locks: whether the suite broke its controls, and what each lock adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from titer.report.grid import Cell, Grid, cell
from titer.report.models import in_order
from titer.report.numbers import DASH, number, tidy
from titer.report.section import Screen, Section
from titer.verdict.parts import Battery, Control, ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "data", "terminal"]

SECTION = Section(title="Locks: controls, and what each lock adds", after="pillars", nav="Locks")


@dataclass(frozen=True, slots=True)
class Rows:
    """``valid``: every control was broken, in at most ``limit`` times the steps. ``unlocked`` are
    the models that the controls are without their locks, ``said`` a sentence a control."""

    battery: Battery
    valid: bool
    limit: str
    unlocked: tuple[str, ...]
    said: tuple[str, ...]
    grid: Grid


def data(verdict: Verdict) -> Rows | None:
    """Nothing where a suite is none of locks."""
    found = verdict.battery
    if found is None:
        return None
    limit = number(found.bypassed, "ratio")
    models = {model.name: model for model in verdict.models}
    titles = {row.id: row.title for row in verdict.suite.rows}
    without = dict.fromkeys(_against(models.get(one.name)) for one in found.controls)
    return Rows(
        battery=found,
        valid=found.valid,
        limit=limit,
        unlocked=tuple(name for name in without if name),
        said=tuple(_control(one, models, titles, limit) for one in found.controls),
        grid=_grid(verdict, titles),
    )


def terminal(rows: Rows, screen: Screen) -> Iterator[RenderableType]:
    """The controls that a suite of locks must break, and whether it did."""
    for one in rows.battery.controls:
        told = f"broken by {one.by}" if one.broken else f"NOT broken: {one.why}"
        rho = f", {number(one.rho, 'ratio')} the steps" if one.broken else ""
        yield Text(f"Control: {tidy(one.name)}: {tidy(told)}{rho}.")
    if not rows.valid:
        yield Text(f"SUITE INVALID: {tidy(rows.battery.why)}. No score counts.", style="red")


def _against(model: ModelVerdict | None) -> str:
    """The model that one is without its lock, as far as this is known."""
    return tidy(model.effort.against) if model and model.effort else ""


def _control(
    one: Control, models: Mapping[str, ModelVerdict], titles: Mapping[str, str], limit: str
) -> str:
    """Whether it was broken, by what, and at which cost."""
    name, by = tidy(one.name), tidy(one.by)
    against = _against(models.get(one.name))
    by = f"{by}, {tidy(titles[by])}" if by in titles else by
    lead = f"{name} was {'broken' if one.broken else 'not broken'}"
    if one.rho is None or not by:
        return f"{lead}: {tidy(one.why)}."
    steps = number(one.rho, "ratio")
    over = "" if one.broken else f" More than {limit} is too much."
    return (
        f"{lead}. The quickest attack on it ({by}) takes {steps} the steps of the quickest on "
        f"{against or 'the model without the lock'}.{over}"
    )


def _grid(verdict: Verdict, titles: Mapping[str, str]) -> Grid:
    """Effort until harm φ, a line a model; nothing of a model under test whose score is withheld.
    For a control one attack is enough, whatever became of the others."""
    grid = Grid(
        "Effort",
        [
            ("Quickest attack", "the least over attacks, never a mean"),
            ("Its steps", "until harm reaches φ with utility kept"),
            ("ρ against no lock", "1: it adds nothing"),
            ("ρ against never learned", "1: as hard as teaching it anew, the most there is"),
        ],
    )
    for model in in_order(verdict):
        effort = model.effort
        if effort is None:
            continue
        if model.withheld and model.role != "control":
            mark = grid.notes.mark(tidy(f"withheld: {model.withheld}"))
            grid.rows.append((model, [Cell(DASH, mark=mark)] * len(grid.heads)))
            continue
        phi = number(effort.tau.get("decides"))
        quickest = effort.attack
        title = tidy(titles.get(quickest, ""))
        cells = [
            Cell(quickest or "none got there", extra=title, tone="words"),
            cell(effort.steps["decides"], "steps", grid.notes, extra=f"φ {phi}"),
            cell(
                effort.unlocked["decides"], "ratio", grid.notes, extra=f"against {_against(model)}"
            ),
            cell(effort.never_learned["decides"], "ratio", grid.notes),
        ]
        grid.rows.append((model, cells))
    return grid
