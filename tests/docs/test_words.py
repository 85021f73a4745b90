"""One word for one thing wherever a reader meets it: reference rate, checkpoint, setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from titer.core import catalogue

ROOT = Path(__file__).parents[2]
OTHER = re.compile(r"\blr\\?\*|\bknobs?\b", re.IGNORECASE)
"""What was said for them once."""

PAGES = (
    *(ROOT / "docs").glob("*.md"),
    *(
        path
        for room in ("how-to", "reference", "explanations")
        for path in (ROOT / "docs" / room).glob("*.md")
    ),
    *(ROOT / "src" / "titer" / "report").rglob("*.j2"),
    ROOT / "README.md",
)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_the_readers_words(path: Path) -> None:
    assert OTHER.findall(path.read_text(encoding="utf-8")) == []


def test_rows_and_cards_have_them() -> None:
    told = {
        name: preset.title
        for kind in ("attack", "defence")
        for name, (_, preset) in (
            (row, catalogue.preset(kind, row)) for row in catalogue.presets(kind)
        )
    }
    told |= {
        one.name: one.summary
        for kind in ("attack", "defence", "measure")
        for one in catalogue.summaries(kind)
    }
    assert {name: text for name, text in told.items() if OTHER.search(text)} == {}
