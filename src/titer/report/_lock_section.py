"""The page's section on locks: whether the suite broke its controls, and what each lock adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titer.report._page import Cell, Grid, cell, in_order, items
from titer.report.tables import DASH, look, number, tidy

__all__ = ["lock_section"]

Verdict = Mapping[str, Any]


def lock_section(verdict: Verdict) -> dict[str, Any]:
    """``{"valid", "limit", "unlocked", "said", "grid"}``; empty where a suite is none of locks."""
    found = look(verdict, "battery")
    if not found:
        return {}
    limit = number(found.get("bypassed"), "ratio")
    models = {str(one.get("name")): one for one in in_order(verdict)}
    titles = {str(row.get("id")): str(row.get("title")) for row in items(verdict["suite"], "rows")}
    controls = items(found, "controls")
    without = {_against(models.get(str(one.get("name")), {})): None for one in controls}
    return {
        "valid": bool(found.get("valid")),
        "limit": limit,
        "unlocked": [name for name in without if name],
        "said": [_control(one, models, titles, limit) for one in controls],
        "grid": _grid(verdict, titles),
    }


def _against(model: Verdict) -> str:
    """The model that one is without its lock, as far as this is known."""
    return tidy((model.get("effort") or {}).get("against") or "")


def _control(
    one: Verdict, models: Mapping[str, Verdict], titles: Mapping[str, str], limit: str
) -> str:
    """Whether it was broken, by what, and at which cost."""
    name, by = tidy(str(one.get("name"))), tidy(str(one.get("by") or ""))
    against = _against(models.get(str(one.get("name")), {}))
    by = f"{by}, {tidy(titles[by])}" if by in titles else by
    broken = bool(one.get("broken"))
    lead = f"{name} was {'broken' if broken else 'not broken'}"
    if one.get("rho") is None or not by:
        return f"{lead}: {tidy(str(one.get('why')))}."
    steps = number(one.get("rho"), "ratio")
    over = "" if broken else f" More than {limit} is too much."
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
        [],
    )
    for model in in_order(verdict):
        effort = look(model, "effort")
        if not effort:
            continue
        if model.get("withheld") and model.get("role") != "control":
            mark = grid.notes.mark(tidy(f"withheld: {model['withheld']}"))
            grid.rows.append((model, [Cell(DASH, mark=mark)] * len(grid.heads)))
            continue
        phi = number(look(effort, "tau").get("decides"))
        quickest = str(effort.get("attack") or "")
        cells = [
            Cell(
                quickest or "none got there",
                extra=tidy(titles.get(quickest, "")),
                tone="words",
            )
        ]
        cells.append(cell(look(effort, "steps", "decides"), "steps", grid.notes, extra=f"φ {phi}"))
        for key, against in (("unlocked", f"against {_against(model)}"), ("never_learned", "")):
            est = look(effort, key, "decides")
            cells.append(cell(est, "ratio", grid.notes, extra=against))
        grid.rows.append((model, cells))
    return grid
