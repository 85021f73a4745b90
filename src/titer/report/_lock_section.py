"""The page's section on locks: whether the suite broke its controls, and what each lock adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titer.report._page import Cell, Grid, cell, in_order, items
from titer.report.tables import DASH, look, number, tidy

__all__ = ["lock_section"]

Verdict = Mapping[str, Any]


def lock_section(verdict: Verdict) -> dict[str, Any]:
    """``{"valid", "said", "grid"}``; empty where the suite is none of locks."""
    found = look(verdict, "battery")
    if not found:
        return {}
    limit = number(found.get("bypassed"), "ratio")
    said = [_control(one) for one in items(found, "controls")]
    return {"valid": bool(found.get("valid")), "limit": limit, "said": said, "grid": _grid(verdict)}


def _control(one: Verdict) -> str:
    name = tidy(str(one.get("name")))
    if not one.get("broken"):
        return f"{name} was not broken: {tidy(str(one.get('why')))}."
    steps = number(one.get("rho"), "ratio")
    return f"{name} was broken, quickest by {tidy(str(one.get('by')))}: {steps} the steps."


def _grid(verdict: Verdict) -> Grid:
    """Effort until harm φ, a line a model; nothing of a model whose score is withheld."""
    grid = Grid(
        "Effort",
        [
            ("Quickest attack", "the least over attacks, never a mean"),
            ("Steps", "until harm φ with utility kept"),
            ("ρ, unlocked", "against the model without its lock: 1 adds nothing"),
            ("ρ, never learned", "1 is the most that any lock reaches"),
        ],
        [],
    )
    for model in in_order(verdict):
        effort = look(model, "effort")
        if not effort:
            continue
        if model.get("withheld"):
            grid.rows.append((model, [Cell(DASH)] * len(grid.heads)))
            continue
        phi = number(look(effort, "tau").get("decides"))
        cells = [Cell(str(effort.get("attack") or "none got there"), tone="words")]
        cells.append(cell(look(effort, "steps", "decides"), "steps", grid.notes, extra=f"φ {phi}"))
        for key, against in (
            ("unlocked", f"against {effort.get('against')}"),
            ("never_learned", ""),
        ):
            est = look(effort, key, "decides")
            cells.append(cell(est, "ratio", grid.notes, extra=tidy(against)))
        grid.rows.append((model, cells))
    return grid
