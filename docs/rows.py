"""Write `docs/reference/rows.md` from what was measured of suites: ``python docs/rows.py``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parent / "reference" / "rows.md"
RESULTS = Path(__file__).parents[1] / "studies" / "results"
SUITES = ("quick", "core")
HEAD = """# Rows that say something

A row that is void, failed or suspect is no evidence, and one that is void or failed withholds the
score. Which rows are that on the testbed is measured by the command above each table
(`studies/valid_rows.py`): the organisms as they come, and the undefended one immunised by NPO and
RMU. A rate is found for each row on the undefended model first
([suites](suites.md#how-a-row-is-read)), so that a row is void only where no rate works.

This page is written by `python docs/rows.py` from `studies/results/valid_rows_*.md`.
"""
_CELL = re.compile(r"(\w+) \((void|suspect|failed): ")


def page() -> str:
    """The page, as Markdown."""
    return HEAD + "".join(f"\n## {suite}\n\n{_section(suite)}" for suite in SUITES)


def measured(suite: str) -> str:
    """What the study wrote of a suite; empty where it was not run."""
    path = RESULTS / f"valid_rows_{suite}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def rows(text: str) -> Iterator[tuple[str, int, int, tuple[tuple[str, str], ...]]]:
    """Of each model its name, how many rows are valid, of how many, and which others are what."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if found := re.fullmatch(r"(\d+) of (\d+)", cells[1] if len(cells) > 1 else ""):
            others = tuple(_CELL.findall(" | ".join(cells[3:])))
            yield cells[0], int(found[1]), int(found[2]), others


def _section(suite: str) -> str:
    text = measured(suite)
    if not text:
        return (
            f"Not measured yet: `python -m studies.valid_rows --suite {suite} --seeds 3` does it.\n"
        )
    found = list(rows(text))
    valid, every = (sum(one[place] for one in found) for place in (1, 2))
    void = sorted({row for *_, others in found for row, kind in others if kind == "void"})
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    command = next(line for line in text.splitlines() if line.startswith("`python"))
    told = f"void somewhere: {', '.join(void)}" if void else "none is void"
    share = f"{valid} of {every} are valid, {100 * valid / every:.0f} %; {told}."
    return f"{command}\n\n{share}\n\n{table}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
