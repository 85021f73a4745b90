"""The four-pillar table, erasure standing beside resistance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from titer.report.columns import COLUMNS, PILLARS, Column
from titer.report.glossary import OUTCOMES
from titer.report.grid import Cell, Grid, cell
from titer.report.latex import latex as plain
from titer.report.latex import line, span, tabular
from titer.report.latex import shown as set_shown
from titer.report.models import in_order, outcome_counts, strong
from titer.report.numbers import DASH, ENDS, apart, interval, number, six, tidy, value
from titer.report.section import Screen, Section, Table
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "data", "latex", "table", "terminal"]

SECTION = Section(title="The four pillars", after="claims", nav="Four pillars")


@dataclass(frozen=True, slots=True)
class Rows:
    """The table of the page, and the models that it is about."""

    grid: Grid
    models: tuple[ModelVerdict, ...]
    verdict: Verdict


def data(verdict: Verdict) -> Rows | None:
    """Models by the columns of the pillars."""
    groups = [
        (title, sum(column.pillar == pillar for column in COLUMNS))
        for pillar, title in PILLARS.items()
    ]
    grid = Grid("", [(column.title, column.says) for column in COLUMNS], groups=groups)
    models = in_order(verdict)
    for model in models:
        cells: list[Cell] = []
        for at, column in enumerate(COLUMNS):
            extra, tone = _against_phi(model) if column.key == "weak" else ("", "")
            est = column.of(model)
            note = {"rtt": model.erasure.note, "in_domain": model.generalisation.note}
            cells.append(
                cell(
                    est,
                    column.form,
                    grid.notes,
                    first=not at or COLUMNS[at - 1].pillar != column.pillar,
                    extra=extra,
                    tone=tone,
                    note=est.note or note.get(column.key, ""),
                )
            )
        grid.rows.append((model, cells))
    return Rows(grid, tuple(models), verdict) if models else None


def _against_phi(model: ModelVerdict) -> tuple[str, str]:
    weak, passes = model.resistance.weak.value, model.resistance.passes
    phi = apart(weak, model.resistance.phi)[1]
    if passes is None:
        return f"φ {phi}" + (", open" if weak is not None else ""), ""
    return (f"● < φ {phi}", "held") if passes else (f"✕ ≥ φ {phi}", "breached")


def table(rows: Rows) -> Table:
    """One number with its interval a line."""

    def lines() -> Iterator[tuple[str | float | bool | None, ...]]:
        for model in rows.models:
            head = (model.name, model.role)
            for column in COLUMNS:
                yield (*head, column.pillar, column.key, *six(column.of(model)))
            for suite, kept in model.stability.suites.items():
                for key in ("before", "after", "delta"):
                    yield (*head, "stability", f"{suite} {key}", *six(getattr(kept, key)))
            for task, found in model.trainability.tasks.items():
                for key in ("ratio", "gap", "bricked"):
                    yield (*head, "trainability", f"{task} {key}", *six(getattr(found, key)))

    heads = ("model", "role", "pillar", "number", *ENDS)
    return Table(name="pillars", heads=heads, rows=tuple(lines()))


def latex(rows: Rows) -> dict[str, str]:
    """Numbers by models, as a paper prints them."""
    models = rows.models
    lines: list[str] = []
    for pillar, title in PILLARS.items():
        lines.append(span(len(models), plain(title)))
        for column in COLUMNS:
            if column.pillar != pillar:
                continue
            cells = [set_shown(column.of(model), column.form) for model in models]
            unit = " (points)" if column.form == "points" else ""
            lines.append(line(plain(column.title) + unit, cells))
        if pillar == "resistance":
            levels = [plain(number(model.resistance.phi)) for model in models]
            lines.append(line(r"Threshold $\varphi$", levels))
    return {"pillars": tabular(rows.verdict, "", lines)}


# -- the terminal ----------------------------------------------------------------------------------


def terminal(rows: Rows, screen: Screen) -> Iterator[RenderableType]:
    """Models as columns, as many side by side as the terminal is wide, then withheld and flags."""
    label, cell = 26, 21
    side = max(1, (screen.width - label) // cell)
    for first in range(0, len(rows.models), side):
        yield _table(rows.models[first : first + side], screen)
    for model in rows.models:
        name = tidy(model.name)
        if model.withheld:
            yield Text(f"withheld: {name}: {tidy(model.withheld)}", style="yellow")
        for flag in model.flags:
            who = f": {_suspects(model)}" if flag == "suspect adversaries" else ""
            yield Text(f"flag: {name}: {tidy(flag)}{who}")


def _suspects(model: ModelVerdict) -> str:
    """The rows that a check doubts, each with the check."""
    doubted = (one for one in model.attacks.values() if one.standing == "suspect")
    return ", ".join(tidy(f"{one.row} ({one.reason})") for one in doubted)


def _table(models: Sequence[ModelVerdict], screen: Screen) -> RichTable:
    table = screen.table()
    table.add_column("", no_wrap=True, style="dim" if screen.live else "")
    for model in models:
        head = Text(tidy(model.name), overflow="fold")
        head.append(f"\n{tidy(model.role)}", style="dim")
        table.add_column(head, justify="right", max_width=24)
    for pillar, title in PILLARS.items():
        table.add_section()
        table.add_row(Text(title, style="bold"), *([""] * len(models)))
        for column in (column for column in COLUMNS if column.pillar == pillar):
            unit = " (points)" if column.form == "points" else ""
            table.add_row(f"  {column.title}{unit}", *(_cell(model, column) for model in models))
        if pillar == "resistance":
            table.add_row("  Threshold φ", *(_threshold(model) for model in models))
            words = (re.split("[:;,]", strong(model))[0] for model in models)
            table.add_row("  Strong resistance", *words)
    table.add_section()
    table.add_row(Text("Outcomes", style="bold"), *([""] * len(models)))
    for name, (glyph, _) in {**OUTCOMES, "no result": (DASH, "")}.items():
        counts = [outcome_counts(model)[name] for model in models]
        table.add_row(f"  {glyph} {name}", *(str(count) for count in counts))
    return table


def _cell(model: ModelVerdict, column: Column) -> Text:
    est = column.of(model)
    text = Text(value(est, column.form), style="bold")
    return text.append(f" {interval(est, column.form)}".rstrip(), style="not bold dim")


def _threshold(model: ModelVerdict) -> Text:
    passes = model.resistance.passes
    word = "" if passes is None else " kept" if passes else " exceeded"
    return Text(number(model.resistance.phi) + word)
