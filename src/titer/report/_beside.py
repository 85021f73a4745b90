"""The table of what another program measured, which stands beside the pillars and in none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titer.report._page import Cell, Grid, cell, in_order, items
from titer.report.tables import DASH, interval, lm_eval_name, look, value

__all__ = ["beside", "with_beside"]


def beside(verdict: Mapping[str, Any]) -> list[Grid]:
    """Utility by lm-eval, models by metrics; nothing where nothing was imported."""
    shown = items(verdict, "lm_eval")
    if not shown:
        return []
    found = {(str(one["model"]), lm_eval_name(one)): one for one in shown}
    names = list(dict.fromkeys(lm_eval_name(one) for one in shown))
    about = "Measured by lm-evaluation-harness and imported; no other number here uses it."
    grid = Grid("Utility by lm-eval", [(name, "") for name in names], [], about=about)
    for model in in_order(verdict):
        cells: list[Cell] = []
        for name in names:
            one = found.get((str(model.get("name", "")), name))
            if one is None:
                cells.append(Cell(DASH))
                continue
            change = look(one, "change")
            told = f"{value(change, 'signed')} {interval(change, 'signed')} from undefended"
            extra = told if change.get("value") is not None else ""
            est = {**look(one, "score"), "note": change.get("note") or ""}
            cells.append(cell(est, "score", grid.notes, extra=extra, tone="text"))
        grid.rows.append((model, cells))
    return [grid]


def with_beside(grids: list[Grid], verdict: Mapping[str, Any]) -> list[Grid]:
    """The tables of the pillars with this one under the study's own utility."""
    at = next((n for n, grid in enumerate(grids, start=1) if grid.title == "Stability"), len(grids))
    return [*grids[:at], *beside(verdict), *grids[at:]]
