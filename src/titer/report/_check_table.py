"""The checks S1 to S18 as a table of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titer.report._page import in_order, items
from titer.report.tables import DASH, number, tidy

__all__ = ["check_table"]

Verdict = Mapping[str, Any]


def check_table(verdict: Verdict) -> dict[str, Any]:
    """The checks S1 to S18: a line each, a cell for each model that was examined."""
    models = [model for model in in_order(verdict) if items(model, "checks")]
    lines: dict[str, dict[str, Any]] = {}
    for model in models:
        for one in items(model, "checks"):
            line = lines.setdefault(str(one["id"]), {**one, "cells": []})
            shown = one.get("statistic")
            line["cells"].append(
                {
                    "flag": one.get("flag", "not run"),
                    "value": number(shown) if isinstance(shown, int | float) else DASH,
                    "reason": tidy(str(one.get("reason") or "")),
                }
            )
    return {"models": models, "lines": list(lines.values())}
