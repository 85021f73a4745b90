"""A report in the forms that papers, spreadsheets and the Hub read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from titer.core.errors import BadInput
from titer.core.files import atomic_folder
from titer.report import _page, _paper, cards, figures
from titer.report._tables_out import csv_tables, latex_tables
from titer.report.tables import look

__all__ = ["COLUMN", "PAGE", "export"]

Verdict = Mapping[str, Any]

COLUMN, PAGE = 89.0, 183.0
"""Millimetres of a column and of a page, as most journals with two columns have them."""

_MARK = "export.json"
_DRAWN_AT = 490.0
"""The width in pixels of the drawing that fills a column; the others keep its size of type."""


def export(
    verdict: Verdict,
    to: Path,
    *,
    width: float = COLUMN,
    dataset: str = "",
    bases: Mapping[str, str] | None = None,
) -> list[str]:
    """Write tables, figures and cards; returns the files, relative to ``to``, in order.

    Everything is a function of the verdict, so that the same verdict gives the same bytes. PDF is
    left out where CairoSVG is not installed. An earlier export in ``to`` is replaced.

    Args:
        verdict: What :func:`titer.report.load.read_verdict` returns.
        to: A new or empty folder, or one that was exported to before.
        width: Millimetres across a recovery curve; the type of all figures follows.
        dataset: The Hub id of the suite in the evaluation results, by default ``titer/SUITE``.
        bases: Hub ids of what the models were made from, by the models' names.

    Raises:
        BadInput: ``to`` holds something else, or the width is none.
    """
    if not 20 <= width <= 1000:
        raise BadInput(f"--width {width:g}: give millimetres from 20 to 1000; a column is 89.")
    if dataset and not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        raise BadInput(f"--dataset {dataset}: give a Hub id, owner/name.")
    if to.is_file() or (to.is_dir() and any(to.iterdir()) and not (to / _MARK).is_file()):
        raise BadInput(f"{to} exists and is no export of titer's; choose another --to.")
    files: dict[str, bytes] = {}
    for ending, tables in (("csv", csv_tables(verdict)), ("tex", latex_tables(verdict))):
        for name, text in tables.items():
            files[f"tables/{name}.{ending}"] = text.encode()
    files |= _figures(verdict, width)
    suite = look(verdict, "suite")
    standing = dataset or f"titer/{suite['name']}-{suite['version']}"
    names = _file_names(verdict)
    for model in _page.in_order(verdict):
        if model["role"] in ("undefended", "oracle"):
            continue
        name = str(model["name"])
        card = cards.model_card(verdict, model, (bases or {}).get(name, ""))
        files[f"cards/{names[name]}/README.md"] = card.encode()
        results = cards.evaluation_results(verdict, model, standing)
        files[f"cards/{names[name]}/evaluation-results.yaml"] = results.encode()
    made = {"titer": verdict["titer"], "suite": suite["hash"], "files": sorted(files)}
    files[_MARK] = json.dumps(made, indent=1).encode()
    with atomic_folder(to) as scratch:
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
        scratch.chmod(0o755)
    return sorted(files)


def _file_names(verdict: Verdict) -> dict[str, str]:
    """A file name for each model: its own as far as it goes, and different from all others."""
    found: dict[str, str] = {}
    for model in _page.in_order(verdict):
        name = str(model["name"])
        bare = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:60] or "model"
        taken, number = set(found.values()), 1
        while (shown := bare if number == 1 else f"{bare}-{number}") in taken:
            number += 1
        found[name] = shown
    return found


def _figures(verdict: Verdict, width: float) -> dict[str, bytes]:
    drawn = _drawings(verdict)
    files: dict[str, bytes] = {}
    for name, figure in drawn.items():
        across = float(ElementTree.fromstring(figure).attrib["viewBox"].split()[2])
        wide = round(width * across / _DRAWN_AT, 2)
        if across > _DRAWN_AT:  # a wide drawing goes over the page
            wide = min(wide, max(PAGE, width))
        drawing = _paper.to_svg(figure, wide)
        files[f"figures/{name}.svg"] = drawing.encode()
        if _paper.available():
            files[f"figures/{name}.pdf"] = _paper.to_pdf(drawing)
    return files


def _drawings(verdict: Verdict) -> dict[str, str]:
    """The report's figures by file name."""
    models = _page.in_order(verdict)
    names = _file_names(verdict)
    undefended = next((m for m in models if m.get("role") == "undefended"), None)
    oracle = next((m for m in models if m.get("role") == "oracle"), None)
    chance, last = look(verdict, "world").get("chance"), verdict.get("budget_max")
    margin = look(verdict, "settings").get("margin")
    found = {
        "resistance-utility": figures.pareto(models, "r_star", margin=margin),
        "harm-utility": figures.pareto(models, "weak", margin=margin),
    }
    if rows := _page.items(look(verdict, "suite"), "rows"):
        found["outcomes"] = figures.heatmap(rows, models)
    for model in models:
        name = names[str(model["name"])]
        found[f"recovery-{name}"] = figures.recovery(
            model, undefended, oracle, chance=chance, last=last
        )
        if _page.curve_of(model):
            found[f"shares-{name}"] = figures.shares(model)
    return found
