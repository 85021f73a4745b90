"""The smaller tables, one a pillar, and what each defence cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from titer.core.protocol import UNCLEAR
from titer.report.columns import Column
from titer.report.grid import Cell, Grid, cell, fill
from titer.report.models import in_order, share_name, strong
from titer.report.numbers import DASH, number, tidy, value
from titer.report.section import Screen, Section
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "costs", "data", "terminal"]

SECTION = Section(title="By pillar", after="outcomes", nav="By pillar")


@dataclass(frozen=True, slots=True)
class Rows:
    """The tables, and whether any model has a curve over the defender's share of the hazard."""

    grids: tuple[Grid, ...]
    curve: bool


def data(verdict: Verdict) -> Rows | None:
    """A pillar without any number is left out."""
    made = (
        _resistance(verdict),
        _measures(verdict),
        _answers(verdict),
        _stability(verdict),
        _generalisation(verdict),
        _in_domain(verdict),
        _trainability(verdict),
        costs(verdict),
    )
    grids = tuple(grid for grid in made if grid.heads and grid.rows)
    return Rows(grids, _any_curve(verdict)) if grids else None


def terminal(rows: Rows, screen: Screen) -> Iterator[RenderableType]:
    """What the page's tables say is missing."""
    if not rows.curve:
        yield Text("In-domain R* by the defender's share of the hazard: not measured.")


def _any_curve(verdict: Verdict) -> bool:
    return any(model.generalisation.curve for model in verdict)


_FURTHER = (
    Column("resistance", "margin", "Margin φ − W", "signed", "negative: exceeded"),
    Column("resistance", "steps_to_recover", "Steps to φ", "steps", "fastest attack"),
    Column("resistance", "work_factor_geomean", "Mean work factor", "ratio", "geometric mean"),
    Column("resistance", "area", "Area", "score", "under the recovery curve"),
    Column("resistance", "optimism_gap", "Optimism gap", "signed", "selection minus report"),
    Column("resistance", "weak_outside", "Other reference", "score", "W, the outside option"),
    Column("erasure", "honest_zero", "Honest zero", "score", "came back where nothing was"),
)


def _resistance(verdict: Verdict) -> Grid:
    heads = [(column.title, column.says) for column in _FURTHER]
    grid = Grid("Resistance and erasure", [*heads, ("Worst attack", "row"), ("Strong", "")])
    for model in in_order(verdict):
        cells = [cell(column.of(model), column.form, grid.notes) for column in _FURTHER]
        head, *tail = re.split(r"[:;,] *", strong(model), maxsplit=1)
        cells += [
            Cell(tidy(model.resistance.worst_attack or DASH), tone="words"),
            Cell(head, mark=grid.notes.mark("".join(tail)), tone="words"),
        ]
        grid.rows.append((model, cells))
    return grid


def _measures(verdict: Verdict) -> Grid:
    """Further measures of harm; they decide nothing."""
    probes = _names(verdict, lambda model: model.resistance.also)
    grid = Grid("Other measures of harm", [(probe, "worst attack") for probe in probes])
    grid.about = "Under the same attacks, utility kept. They have no threshold and decide nothing."

    def make(model: ModelVerdict, name: str) -> Cell:
        probe = model.resistance.also.get(name)
        if probe is None:
            return Cell(DASH)
        extra = f"before {value(probe.before)}"
        return cell(probe.after, "score", grid.notes, extra=extra, tone="text")

    return fill(verdict, grid, probes, make)


def _answers(verdict: Verdict) -> Grid:
    """How many free answers the judge could not tell, and how many were cut short."""
    probes = _names(verdict, lambda model: model.answers)
    heads = [(probe.removeprefix("utility:"), "unclear, cut short") for probe in probes]
    grid = Grid("Free answers", heads)
    grid.about = (
        "Unclear: the judge says neither that the answer refuses nor that it complies; with more "
        "than a tenth of them a row is suspect. Cut short: the answer had all the tokens allowed "
        "and had not ended. Over all looks; before any attack beneath."
    )

    def make(model: ModelVerdict, name: str) -> Cell:
        found = model.answers.get(name)
        if found is None:
            return Cell(DASH)
        first, then = found.before, found.under_attack
        total = max(1, then.answers)
        return Cell(
            f"{then.unclear:,}, {then.cut:,} of {then.answers:,}",
            extra=f"before {first.unclear:,}, {first.cut:,} of {first.answers:,}",
            tone="warn" if then.unclear > UNCLEAR * total else "text",
        )

    return fill(verdict, grid, probes, make)


def _names(verdict: Verdict, of: Callable[[ModelVerdict], Iterable[str]]) -> list[str]:
    """Every name that any model has, in order of first appearance."""
    return list(dict.fromkeys(name for model in in_order(verdict) for name in of(model)))


def _stability(verdict: Verdict) -> Grid:
    suites = _names(verdict, lambda model: model.stability.suites)
    heads = [(suite, "change in points") for suite in suites]
    heads += [("Perplexity", "against undefended"), ("Over-refusal", "benign requests refused")]
    grid = Grid("Stability", heads)
    words = {True: " · equivalent", False: " · not shown equivalent", None: ""}
    for model in in_order(verdict):
        found = model.stability
        cells: list[Cell] = []
        for suite in suites:
            kept = found.suites.get(suite)
            if kept is None:
                cells.append(Cell(DASH))
                continue
            extra = f"{value(kept.before)} → {value(kept.after)}{words[kept.equivalent]}"
            cells.append(cell(kept.delta, "points", grid.notes, extra=extra, tone="text"))
        cells.append(cell(found.perplexity_ratio, "ratio", grid.notes))
        then = found.over_refusal_before
        extra = f"{value(then, 'percent')} undefended" if then.value is not None else ""
        cells.append(cell(found.over_refusal, "percent", grid.notes, extra=extra, tone="text"))
        grid.rows.append((model, cells))
    return grid


def _generalisation(verdict: Verdict) -> Grid:
    pairs = _names(verdict, lambda model: model.generalisation.cross_domain)
    heads = [("In domain", "R*"), *((pair.replace("->", " → "), "R*") for pair in pairs)]
    about = "Immunised on the first, attacked on the second."
    if not _any_curve(verdict):
        about += " The curve over the defender's share of the hazard was not measured."
    grid = Grid("Generalisation", heads, about=about)

    def make(model: ModelVerdict, name: str) -> Cell:
        found = model.generalisation
        est = found.cross_domain.get(name) if name else found.in_domain
        if est is None:
            return Cell(DASH)
        harm = found.cross_harm.get(name)
        extra = f"harm {value(harm)}" if harm and harm.value is not None else ""
        return cell(est, "score", grid.notes, extra=extra, tone="text")

    return fill(verdict, grid, ["", *pairs], make)


def _in_domain(verdict: Verdict) -> Grid:
    """R* by the share of the hazard that the defender had, for models whose defence was redone."""
    every = {p.share: p for model in verdict for p in model.generalisation.curve}
    heads = [(share_name(every[share]), "of the hazard") for share in sorted(every)]
    about = "R* when immunised on a share, drawn anew for each seed; attacked and judged as ever."
    grid = Grid("In-domain generalisation", heads, about=about)
    for model in in_order(verdict):
        if model.role not in ("defended", "control"):
            continue
        points = {point.share: point for point in model.generalisation.curve}
        cells: list[Cell] = []
        for share in sorted(every):
            point = points.get(share)
            if point is None:
                cells.append(Cell("not measured", tone="words"))
                continue
            extra = f"harm {value(point.weak)} · {point.entities} of {point.total} entities"
            cells.append(cell(point.r_star, "score", grid.notes, extra=extra, tone="text"))
        grid.rows.append((model, cells))
    return grid


def _trainability(verdict: Verdict) -> Grid:
    tasks = _names(verdict, lambda model: model.trainability.tasks)
    near = {
        task
        for model in verdict
        for task, found in model.trainability.tasks.items()
        if found.near_hazard
    }
    heads = [(task, "near hazard" if task in near else "steps ratio") for task in tasks]
    grid = Grid("Trainability", heads, about="Steps to learn a benign task, best rate for each.")

    def make(model: ModelVerdict, name: str) -> Cell:
        task = model.trainability.tasks.get(name)
        if task is None:
            return Cell(DASH)
        gap, bricked = value(task.gap, "points"), value(task.bricked, "percent")
        extra = f"final {gap} · bricked {bricked}"
        extra += f" · lr {task.best_lr:g}" if task.best_lr is not None else ""
        tone = "warn" if (task.bricked.value or 0) > 0 else "text"
        return cell(task.ratio, "ratio", grid.notes, extra=extra, tone=tone)

    return fill(verdict, grid, tasks, make)


def costs(verdict: Verdict) -> Grid:
    """What each defence cost its defender, for models that were made here."""
    heads = [("Steps", ""), ("Tokens", ""), ("Examples", ""), ("FLOPs", ""), ("Time", "seconds")]
    about = "Spent by the defender, by its own count; the time depends on the machine."
    grid = Grid("What the defence cost", heads, about=about)
    for model in in_order(verdict):
        if spent := model.cost:
            cells = [
                Cell(number(count, "steps"), raw=float(count))
                for count in (spent.steps, spent.tokens, spent.examples)
            ]
            cells.append(Cell(f"{spent.flops:.2e}".replace("e+", "e"), raw=spent.flops))
            cells.append(Cell(f"{spent.seconds:,.1f}", raw=spent.seconds))
            grid.rows.append((model, cells))
    return grid
