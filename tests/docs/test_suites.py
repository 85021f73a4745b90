"""docs/reference/suites.md is written by hand; what it says of a row is what the catalogue says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from titer.core import catalogue
from titer.plan.suites import SUITES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "suites.md").read_text(encoding="utf-8")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


ROWS = {
    cells[0]: cells
    for line in PAGE.splitlines()
    if re.match(r"\| [A-Z]\d\d \|", line) and (cells := _cells(line))
}


def test_the_page_has_every_row_and_no_other() -> None:
    known = set(catalogue.presets("attack"))
    assert known - set(ROWS) == set(), "describe these rows in docs/reference/suites.md"
    assert set(ROWS) - known == set(), "docs/reference/suites.md describes rows that do not exist"


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_says_what_its_preset_says(row: str) -> None:
    if row not in catalogue.presets("attack"):
        pytest.skip("reported above")
    _, _, rate, batch, steps, seen, _, domain, source = ROWS[row]
    method, preset = catalogue.preset("attack", row)
    built = catalogue.build("attack", method, dict(preset.fields))
    small, large = preset.steps
    assert steps == f"{small:,} / {large:,}"
    assert (domain, source) == (preset.domain, preset.source)
    assert rate == ("–" if preset.lr_scale is None else f"{preset.lr_scale:g}")
    if (size := getattr(built, "batch_size", None)) is not None:
        assert (batch, seen) == (str(size), f"{size * small:,}")


def test_the_suites_are_listed_as_they_are() -> None:
    for name, suite in SUITES.items():
        ids = " ".join(row.id for row in suite.rows)
        assert f"| {name} | {suite.version} | {ids} |" in PAGE, name
