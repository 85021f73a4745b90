"""Terms are explained where they stand, and each from the one glossary."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import pytest
from made_verdict import study

from titer.report import html
from titer.report.columns import COLUMNS, PILLARS
from titer.report.export import export
from titer.report.glossary import OUTCOMES, ROLES, SOURCE, TERMS, WORDS, term_of
from titer.report.notebook import fragment
from titer.report.sections import strip

BUTTON = re.compile(r'<button type="button" class="term" popovertarget="term-(\d+)" title="[^"]+">')


@cache
def page() -> str:
    return html.render(study())


def test_every_word_in_a_place_of_terms_is_one() -> None:
    """Heads of tables, of pillars and of the strip; outcomes and verdicts. The strip's legend needs
    none: each of its words has its meaning beside it."""
    told = re.sub(r"<dt>.*?</dt>", "", page())
    found = re.findall(r"<th\b[^>]*>(.*?)</th>", told, re.S)
    found += re.findall(r'<span class="(?:chip outcome|word) ?[^"]*">(.*?)</span>', told, re.S)
    bare = [one for one in found if term_of(re.sub(r"<[^>]+>|[●✕◐■—]", "", one).strip())]
    assert bare
    assert [one for one in bare if not BUTTON.search(one)] == []


@pytest.mark.parametrize(
    "title",
    [
        *(column.title for column in COLUMNS),
        *PILLARS.values(),
        *strip.HEADS[1:],
        *OUTCOMES,
        *(f"{word} (model)" for word in WORDS),
        *(role for role in ROLES.values() if role != "defended"),
        *("no result", "void", "suspect", "failed", "not run", "Steps to φ", "Trials"),
    ],
)
def test_what_a_reader_meets_has_a_meaning(title: str) -> None:
    assert term_of(title)


def test_each_explanation_is_on_the_page_once_and_none_is_idle() -> None:
    asked = set(BUTTON.findall(page()))
    shown = re.findall(r'<div popover id="term-(\d+)" class="meaning"><b>(.*?)</b>', page())
    assert {at for at, _ in shown} == asked
    assert len(shown) == len(asked)
    for at, word in shown:
        assert word == TERMS[int(at) - 1].word


def test_the_marks_of_the_map_say_what_they_mean() -> None:
    map_ = page().split('<section id="outcomes">')[1].split("</section>")[0]
    cells = re.findall(
        r'class="cell (?:held|breached|degraded|bricked)"><title>(.*?)</title>', map_
    )
    assert cells
    assert all(any(says in cell for _, says in OUTCOMES.values()) for cell in cells)
    for word in (*OUTCOMES, "void", "suspect", "failed", "no result", "seed"):
        term = term_of(word)
        assert term
        assert f'popovertarget="term-{TERMS.index(term) + 1}"' in map_, word


def test_a_head_that_names_none_is_left_alone() -> None:
    assert term_of("Model") is None
    assert term_of("Worst harmony") is None


def test_every_row_of_the_source_is_a_term_and_no_word_stands_twice() -> None:
    rows = [line for line in SOURCE.splitlines() if line.startswith("| ")]
    heads = sum(line.startswith(("| titer says", "| ---")) for line in rows)
    assert len(TERMS) == len(rows) - heads > 80
    assert len({term.word for term in TERMS}) == len(TERMS)
    assert term_of("R*") == next(term for term in TERMS if term.word == "R*")


def test_an_export_has_the_glossary_too(tmp_path: Path) -> None:
    files = export(study(rows=4, models=3), tmp_path / "out")
    assert {"tables/glossary.csv", "tables/glossary.json", "tables/glossary.tex"} <= set(files)
    with (tmp_path / "out/tables/glossary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["word"] for row in rows] == [term.word for term in TERMS]
    assert [row["means"] for row in rows] == [term.means for term in TERMS]


def test_a_notebook_explains_its_heads() -> None:
    shown = fragment(study(rows=4, models=3))
    for title in ("Worst harm", "R*", "Came back"):
        term = term_of(title)
        assert term
        assert term.says in shown
