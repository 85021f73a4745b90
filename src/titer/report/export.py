"""A report in the forms that papers, spreadsheets and the Hub read."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from titer.core.errors import BadInput
from titer.core.files import atomic_folder, require_place, require_regular
from titer.core.reading import UNREADABLE, load_json
from titer.report import _paper, cards
from titer.report.latex import plain_table
from titer.report.models import in_order
from titer.report.numbers import tidy
from titer.report.section import Part, Table, parts
from titer.verdict.parts import Verdict

__all__ = ["COLUMN", "PAGE", "export", "to_csv"]

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
    left out where CairoSVG is not installed. An earlier export in ``to`` is replaced, unless
    somebody put a file of their own into it.

    Args:
        verdict: What :func:`titer.report.load.read_verdict` returns.
        to: A new or empty folder, or one that was exported to before.
        width: Millimetres across a recovery curve; the type of all figures follows.
        dataset: The Hub id of the suite in the evaluation results, by default ``titer/SUITE``.
        bases: Hub ids of what the models were made from, by the models' names.

    Raises:
        BadInput: ``to`` holds what no export wrote, or the width is none.
    """
    if not 20 <= width <= 1000:
        raise BadInput(f"--width {width:g}: give millimetres from 20 to 1000; a column is 89.")
    if dataset and not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        raise BadInput(f"--dataset {dataset}: give a Hub id, owner/name.")
    require_place(to, "--to", "new folder")
    _require_own(to)
    found = parts(verdict)
    files: dict[str, bytes] = {}
    for part in found:
        files |= _tables(part)
    files |= _figures(found, width)
    standing = dataset or f"titer/{verdict.suite.title}"
    names = _file_names([model.name for model in in_order(verdict)])
    for model in in_order(verdict):
        if model.role in ("undefended", "oracle"):
            continue
        name = names[model.name]
        card = cards.model_card(verdict, model, (bases or {}).get(model.name, ""))
        files[f"cards/{name}/README.md"] = card.encode()
        results = cards.evaluation_results(verdict, model, standing)
        files[f"cards/{name}/evaluation-results.yaml"] = results.encode()
    made = {"titer": verdict.titer, "suite": verdict.suite.hash, "files": sorted(files)}
    files[_MARK] = json.dumps(made, indent=1).encode()
    with atomic_folder(to) as scratch:
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
        scratch.chmod(0o755)
    return sorted(files)


def _require_own(to: Path) -> None:
    """Refuse a folder with a file in it that no export wrote: it would go with the old export."""
    require_regular(to)
    inside = sorted(to.rglob("*")) if to.is_dir() else []
    if not inside:
        return
    try:
        told = load_json((to / _MARK).read_text(encoding="utf-8"))["files"]
        written = {to / name for name in told} | {to / _MARK}
    except (OSError, *UNREADABLE):
        raise BadInput(f"{to} exists and is no export of titer's; choose another --to.") from None
    folders = {above for path in written for above in path.parents}
    strange = [
        path
        for path in inside
        if path not in (folders if path.is_dir() and not path.is_symlink() else written)
    ]
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise BadInput(
            f"{to} holds {strange[0].relative_to(to)}{more}, which no export wrote and a new one "
            "would delete; move it away, or choose another --to."
        )


def _file_names(names: Iterable[str]) -> dict[str, str]:
    """A file name for each: its own as far as it goes, and different from all others."""
    found: dict[str, str] = {}
    for name in names:
        bare = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:80] or "model"
        taken, number = set(found.values()), 1
        while (shown := bare if number == 1 else f"{bare}-{number}") in taken:
            number += 1
        found[name] = shown
    return found


def _tables(part: Part) -> dict[str, bytes]:
    """A section's tables as CSV, JSON and LaTeX."""
    files: dict[str, bytes] = {}
    for table in part.tables():
        files[f"tables/{table.name}.csv"] = to_csv(table).encode()
        rows = [dict(zip(table.heads, row, strict=True)) for row in table.rows]
        files[f"tables/{table.name}.json"] = json.dumps(rows, indent=1).encode()
    papers = part.latex()
    if papers is None:
        papers = {table.name: plain_table(table) for table in part.tables()}
    return files | {f"tables/{name}.tex": text.encode() for name, text in papers.items()}


def to_csv(table: Table) -> str:
    """UTF-8, comma separated, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.heads)
    writer.writerows([_field(one) for one in row] for row in table.rows)
    return out.getvalue()


def _field(raw: str | float | bool | None) -> str | float | bool | None:
    """A text that a spreadsheet would take for a formula is quoted for it."""
    if not isinstance(raw, str):
        return raw
    text = tidy(raw)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _figures(found: Sequence[Part], width: float) -> dict[str, bytes]:
    drawn = {name: figure for part in found for name, figure in part.figures().items()}
    names = _file_names(drawn)
    files: dict[str, bytes] = {}
    for name, figure in drawn.items():
        across = float(ElementTree.fromstring(figure).attrib["viewBox"].split()[2])
        wide = round(width * across / _DRAWN_AT, 2)
        if across > _DRAWN_AT:  # a wide drawing goes over the page
            wide = min(wide, max(PAGE, width))
        drawing = _paper.to_svg(figure, wide)
        files[f"figures/{names[name]}.svg"] = drawing.encode()
        if _paper.available():
            files[f"figures/{names[name]}.pdf"] = _paper.to_pdf(drawing)
    return files
