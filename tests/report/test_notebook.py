"""A verdict shown in a notebook."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from made_verdict import study

from titer.report.columns import COLUMNS
from titer.report.numbers import interval, value


def _parsed(fragment: str) -> ElementTree.Element:
    return ElementTree.fromstring(fragment.replace("<br>", "<br/>"))


def test_a_notebook_shows_the_strip_the_pillars_and_one_figure() -> None:
    verdict = study()
    root = _parsed(verdict._repr_html_())
    glance, pillars = (table for table in root.iter("table"))
    said = {
        "".join(row[0][0].itertext()): "".join(row.itertext()) for row in glance.findall("tbody/tr")
    }
    for model in verdict:
        assert model.word in said[model.name]
        assert f"{model.valid} of {len(verdict.suite.rows)}" in said[model.name]
    numbers = {
        "".join(row[0].itertext()): ["".join(cell.itertext()) for cell in row[1:]]
        for row in pillars.findall("tbody/tr")
    }
    for model in verdict:
        ests = [(column.of(model), column.form) for column in COLUMNS]
        assert numbers[model.name] == [value(*est) + interval(*est) for est in ests]
    assert len([one for one in root.iter() if one.tag.endswith("}svg")]) == 1


def test_a_notebook_runs_no_script_and_names_stay_text() -> None:
    verdict = study()
    nasty = replace(verdict.models[3], name="<script>alert(1)</script>'\"&")
    found = replace(verdict, models=(*verdict.models[:3], nasty))._repr_html_()
    root = _parsed(found)
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert not [name for one in root.iter() for name in one.attrib if name.startswith("on")]
    assert "<style" not in found
    assert "alert(1)" in "".join(root.itertext())


def test_a_verdict_without_models_says_so() -> None:
    assert "no models" in replace(study(), models=())._repr_html_()
