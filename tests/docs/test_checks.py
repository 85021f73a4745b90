"""The page on checks says what the code asks."""

from __future__ import annotations

from pathlib import Path

from titer.checks.listing import listed

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "checks.md"


def test_the_page_lists_every_check_as_the_code_has_it() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| S")]
    found = {row[0].removeprefix("| "): tuple(row[1:4]) for row in rows}
    checks = [one.check for one in listed()]
    assert found == {one.id: (one.asks, one.measures, one.threshold) for one in checks}
