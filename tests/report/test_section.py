"""A section is one file: a new one is in the terminal, the page and the export without an edit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_verdict import study

from titer.core.errors import BadInput
from titer.report import html, sections, tables
from titer.report.export import export
from titer.report.section import found

SECTION = '''
"""How many adversaries each model met."""

from dataclasses import dataclass

from titer.report import _svg as svg
from titer.report.section import Section, Table

SECTION = Section(title="Zebra stripes", after="claims", nav="Zebra")


@dataclass(frozen=True)
class Row:
    model: str
    attacks: int


def data(verdict):
    return tuple(Row(model.name, len(model.attacks)) for model in verdict)


def figure(rows):
    return svg.document(100.0, 40.0, "Stripes", "A text.", svg.text(0, 20, "stripes drawn"))


def table(rows):
    lines = tuple((row.model, row.attacks) for row in rows)
    return Table(name="zebra", heads=("model", "attacks"), rows=lines)
'''


@pytest.fixture
def zebra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "zebra.py").write_text(SECTION)
    (folder / "zebra.html.j2").write_text(
        "<ul>{% for row in rows %}<li>{{ row.model }} met {{ row.attacks }}</li>{% endfor %}</ul>"
        "{{ figures.zebra }}"
    )
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(folder)])
    yield
    sys.modules.pop("titer.report.sections.zebra", None)


@pytest.mark.usefixtures("zebra")
def test_a_new_section_is_one_file(tmp_path: Path) -> None:
    verdict = study(rows=4, models=3)
    names = [name for name, _ in found()]
    assert names[names.index("claims") + 1] == "zebra"
    text = tables.plain(verdict)
    assert "Zebra stripes" in text
    assert any(line.split("|")[0].strip() == "npo" for line in text.splitlines() if "4" in line)
    page = html.render(verdict)
    assert '<a href="#zebra">Zebra</a>' in page
    section = page.split('<section id="zebra">')[1].split("</section>")[0]
    assert "<li>npo met 4</li>" in section
    assert "stripes drawn" in section
    assert html.read(page) == verdict
    files = export(verdict, tmp_path / "out")
    assert {"tables/zebra.csv", "tables/zebra.tex", "figures/zebra.svg"} <= set(files)
    assert "npo,4" in (tmp_path / "out/tables/zebra.csv").read_text()
    rows = json.loads((tmp_path / "out/tables/zebra.json").read_text())
    assert {"model": "npo", "attacks": 4} in rows


def test_without_it_nothing_speaks_of_it() -> None:
    assert "zebra" not in [name for name, _ in found()]
    assert "Zebra" not in html.render(study(rows=4, models=3))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"one": "two", "two": "one"}, "(one after two after one|two after one after two)"),
        ({"one": "one"}, "one after one"),
        ({"one": "two", "two": "three", "three": "one"}, "one after two after three|two after"),
    ],
)
def test_sections_in_a_circle_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], said: str
) -> None:
    for name, after in more.items():
        lines = (
            "from titer.report.section import Section",
            f"SECTION = Section(title={name!r}, after={after!r})",
            "def data(verdict): return (verdict,)",
        )
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path)])
    try:
        with pytest.raises(BadInput, match=f"in a circle: .*({said}).*; give one another"):
            found()
    finally:
        for name in more:
            sys.modules.pop(f"titer.report.sections.{name}", None)


def test_every_section_has_a_fragment_and_stands_once() -> None:
    names = [name for name, _ in found()]
    assert names[0] == "strip"
    assert names[-1] == "glossary"
    assert len(names) == len(set(names))
    for _, module in found():
        assert Path(str(module.__file__)).with_suffix(".html.j2").is_file()
