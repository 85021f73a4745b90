"""What another program measured, which stands beside the pillars and in none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from titer.report.grid import Cell, Grid, cell
from titer.report.latex import latex as plain
from titer.report.latex import line, tabular
from titer.report.latex import shown as set_shown
from titer.report.models import in_order, lm_eval_name
from titer.report.numbers import DASH, ENDS, shown, six, tidy
from titer.report.section import Screen, Section, Table
from titer.verdict.parts import Verdict

__all__ = ["SECTION", "Rows", "data", "latex", "table", "terminal"]

SECTION = Section(title="Utility by lm-eval", after="more", nav="lm-eval")


@dataclass(frozen=True, slots=True)
class Rows:
    """The table of the page, and the verdict whose ``lm_eval`` it is made of."""

    grid: Grid
    verdict: Verdict


def data(verdict: Verdict) -> Rows | None:
    """Models by metrics; nothing where nothing was imported."""
    if not verdict.lm_eval:
        return None
    found = {(one.model, lm_eval_name(one)): one for one in verdict.lm_eval}
    names = list(dict.fromkeys(lm_eval_name(one) for one in verdict.lm_eval))
    about = "Measured by lm-evaluation-harness and imported; no other number here uses it."
    grid = Grid("", [(name, "") for name in names], about=about)
    for model in in_order(verdict):
        cells: list[Cell] = []
        for name in names:
            one = found.get((model.name, name))
            if one is None:
                cells.append(Cell(DASH))
                continue
            change = one.change
            extra, note = "", change.note if change else ""
            if change and change.value is not None:
                extra = f"{shown(change, 'signed')} from undefended"
            cells.append(cell(one.score, "score", grid.notes, extra=extra, tone="text", note=note))
        grid.rows.append((model, cells))
    return Rows(grid, verdict)


def terminal(rows: Rows, screen: Screen) -> Iterator[RenderableType]:
    """A line a number."""
    for one in rows.verdict.lm_eval:
        told, change = shown(one.score), one.change
        if change and change.value is not None:
            told += f", {shown(change, 'signed')} from undefended"
        told += f" ({tidy(change.note)})" if change and change.note else ""
        yield Text(f"lm-eval: {tidy(one.model)}: {lm_eval_name(one)}: {told}.")


def table(rows: Rows) -> Table:
    """One number with its interval a line."""

    def lines() -> Iterator[tuple[str | float | bool | None, ...]]:
        for one in rows.verdict.lm_eval:
            head = (one.model, one.task, one.metric, one.filter, one.version, one.shots)
            yield (*head, "score", *six(one.score))
            if one.change:
                yield (*head, "change from undefended", *six(one.change))

    heads = ("model", "task", "metric", "filter", "version", "shots", "number", *ENDS)
    return Table(name="lm-eval", heads=heads, rows=tuple(lines()))


def latex(rows: Rows) -> dict[str, str]:
    """Metrics by models."""
    verdict = rows.verdict
    found = {(one.model, lm_eval_name(one)): one for one in verdict.lm_eval}
    lines = ["\\midrule"]
    for name in dict.fromkeys(lm_eval_name(one) for one in verdict.lm_eval):
        own = [found.get((model.name, name)) for model in in_order(verdict)]
        lines.append(line(plain(name), [set_shown(one.score) if one else DASH_TEX for one in own]))
    return {"lm-eval": tabular(verdict, "lm-eval", lines)}


DASH_TEX = plain(DASH)
