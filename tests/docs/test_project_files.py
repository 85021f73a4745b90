"""The files that people and tools read before any code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from titer import __version__

ROOT = Path(__file__).parents[2]


def test_the_citation_is_valid_and_of_this_version() -> None:
    raw: Any = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert raw["cff-version"] == "1.2.0"
    assert raw["message"]
    assert raw["title"].startswith("titer")
    assert raw["type"] == "software"
    assert raw["authors"] == [{"name": "The titer authors"}]
    assert raw["license"] == "Apache-2.0"
    assert str(raw["version"]) == __version__
    allowed = [
        "cff-version",
        "message",
        "type",
        "title",
        "abstract",
        "authors",
        "version",
        "license",
        "keywords",
    ]
    assert set(raw) <= {*allowed, "date-released", "repository-code", "url", "doi", "identifiers"}


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?([\w.]+)\]?", text, flags=re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
