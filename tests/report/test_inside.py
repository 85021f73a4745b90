"""The section that says why: words no stronger than the numbers, and every reading shown."""

from __future__ import annotations

import copy
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_verdict import made, typed

from titer.core import catalogue
from titer.report import html
from titer.report.export import export
from titer.report.sections import why
from titer.report.sections.more import costs


def _reading(what: str, value: float | None, half: float = 0.05, **more: Any) -> dict[str, Any]:
    ends = {} if value is None else {"low": value - half, "high": value + half}
    estimate = {"value": value, "n": 24, "note": "" if value is not None else "not made here"}
    return {
        "what": what,
        "place": "",
        "unit": "",
        "chance": 0.25,
        "estimate": {**estimate, **ends},
        **more,
    }


def _looked(said: float, probe: float, lens: float) -> list[dict[str, Any]]:
    layers = ("embedding", "block 0", "block 1")
    return [
        {
            "measure": "logit_lens",
            "seconds": 1.0,
            "readings": [
                _reading("said", said),
                _reading("lens", lens, unit="accuracy, block 0"),
                *(_reading("lens", lens, place=place) for place in layers),
            ],
        },
        {
            "measure": "linear_probe",
            "seconds": 1.0,
            "readings": [
                _reading("probe", probe, unit="accuracy, block 1"),
                *(_reading("probe", probe, place=place) for place in layers),
            ],
        },
        {
            "measure": "g_effect",
            "seconds": 1.0,
            "readings": [
                _reading("G-effect, hidden", -2.0),
                _reading("G-effect, hidden", -1.5, place="block 0"),
            ],
        },
        {
            "measure": "task_vector",
            "seconds": 1.0,
            "readings": [
                _reading("cos(τ_u→ft, τ_u), harmful", -0.4),
                _reading("cos(τ_u→ft, τ_u), harmful", None, place="mlp"),
            ],
        },
    ]


@pytest.fixture
def verdict() -> dict[str, Any]:
    found = copy.deepcopy(made())
    for model in found["models"]:
        role = model["role"]
        model["inside"] = {
            "undefended": _looked(1.0, 0.95, 0.95),
            "oracle": _looked(0.25, 0.3, 0.25),
        }.get(role, _looked(0.3, 0.6, 0.28))
    return found


def _rows(verdict: dict[str, Any]) -> why.Rows:
    rows = why.data(typed(verdict))
    assert rows is not None
    return rows


def _sentence(verdict: dict[str, Any], **readings: float) -> str:
    names = [model["name"] for model in verdict["models"] if model["role"] == "defended"]
    for model in verdict["models"]:
        if model["role"] == "defended":
            model["inside"] = _looked(**{"said": 0.3, "probe": 0.3, "lens": 0.25, **readings})
    return next(s for s in _rows(verdict).sentences if s.startswith(f"{names[0]}:"))


def test_suppressed_is_said_where_intervals_are_apart_and_of_the_reader_that_saw_it(
    verdict: dict[str, Any],
) -> None:
    said = _sentence(verdict, probe=0.6)
    assert "suppressed, not erased: the linear probe reads 0.60 [0.55, 0.65]" in said
    assert "never learned 0.30 [0.25, 0.35]" in said
    assert "lens" not in said
    assert said.endswith("It says 0.30 [0.25, 0.35].")


@pytest.mark.parametrize("probe", [0.3, 0.39, 0.1])
def test_nothing_is_claimed_where_intervals_meet(verdict: dict[str, Any], probe: float) -> None:
    said = _sentence(verdict, probe=probe)
    assert "suppressed" not in said
    assert "no proof of erasure" in said


def test_without_a_model_that_never_learned_nothing_is_said(verdict: dict[str, Any]) -> None:
    verdict["models"] = [m for m in verdict["models"] if m["role"] != "oracle"]
    assert _rows(verdict).sentences == ()


def test_the_page_shows_models_side_by_side_and_every_reading(verdict: dict[str, Any]) -> None:
    page = html.render(typed(verdict))
    assert '<a href="#why">' in page
    assert "Erased, or only suppressed?" in page
    section = page.split('<section id="why">')[1].split("</section>")[0]
    for model in verdict["models"]:
        assert section.count(model["name"].replace("&", "&amp;")) or "<wbr>" in section
    for title in ("What can be read", "Where the defence forgot", "fine-tuned on harmful data"):
        assert title in section
    assert section.count("<details>") == len(verdict["models"])
    assert "not made here" in section
    defended = [m for m in verdict["models"] if m["role"] in ("defended", "control")]
    assert section.count("<svg xmlns") == 2 * len(defended)


def test_names_in_the_drawings_and_sentences_are_escaped(verdict: dict[str, Any]) -> None:
    for model in verdict["models"]:
        if model["role"] == "defended":
            model["name"] = f"<script>alert(1)</script>{model['digest']}"
    assert (
        "<script>alert"
        not in html.render(typed(verdict)).split('<script type="application/json"')[0]
    )


def test_where_nothing_was_looked_at_there_is_no_section() -> None:
    plain = made()
    assert why.data(typed(plain)) is None
    assert 'id="why"' not in html.render(typed(plain))
    assert "What the defence cost" not in html.render(typed(plain))


def test_the_cost_of_a_defence_is_shown_where_it_was_made_here(verdict: dict[str, Any]) -> None:
    spent = {"steps": 250, "tokens": 243_798, "examples": 1584, "flops": 1.13e12, "seconds": 61.5}
    for model in verdict["models"]:
        model["cost"] = spent if model["role"] == "defended" else {}
    grid = costs(typed(verdict))
    count = sum(model["role"] == "defended" for model in verdict["models"])
    assert len(grid.rows) == count > 0
    assert [cell.value for cell in grid.rows[0][1]] == [
        "250",
        "243,798",
        "1,584",
        "1.13e12",
        "61.5",
    ]
    assert "What the defence cost" in html.render(typed(verdict))


MEASURE = """
from dataclasses import dataclass

from titer.method import Card, Column, Reader, Shown, Table


@dataclass(frozen=True, kw_only=True)
class Moonlight:
    def look(self, case):
        return []


CARD = Card(
    kind="measure",
    build=Moonlight,
    source="titer",
    summary="what is read by moonlight",
    family="inside",
    shows=Shown(
        tables=(
            Table(
                title="By the light of {}",
                place=7,
                about="Seen at night.",
                columns=(Column(what="glow, {}", title="Glow", says="in candela"),),
            ),
        ),
        reader=Reader(what="seen", name="the night watch"),
    ),
)
"""


@pytest.fixture
def moonlight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "moonlight.py").write_text(MEASURE)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = importlib.metadata.EntryPoint("moonlight", "moonlight", "titer.measures")
    monkeypatch.setattr(catalogue, "_plugins", lambda _kind: {"moonlight": entry})
    yield
    sys.modules.pop("moonlight", None)


def _by_moonlight(verdict: dict[str, Any]) -> None:
    for model in verdict["models"]:
        seen = 0.25 if model["role"] == "oracle" else 0.8
        model["inside"].append(
            {
                "measure": "moonlight",
                "seconds": 1.0,
                "readings": [
                    _reading("seen", seen),
                    *(_reading("seen", seen, place=f"block {at}") for at in range(2)),
                    _reading("glow, the moon", 0.125),
                    _reading("glow, a star", 0.875),
                ],
            }
        )


@pytest.mark.usefixtures("moonlight")
def test_a_measure_says_itself_how_it_is_shown(verdict: dict[str, Any], tmp_path: Path) -> None:
    _by_moonlight(verdict)
    said = next(one for one in _rows(verdict).sentences if "night watch" in one)
    assert "suppressed, not erased" in said
    assert "the night watch reads 0.80 [0.75, 0.85], never learned 0.25 [0.20, 0.30]" in said
    section = html.render(typed(verdict)).split('<section id="why">')[1].split("</section>")[0]
    for text in ("By the light of the moon", "By the light of a star", "Glow", "in candela"):
        assert text in section
    assert "Seen at night." in section
    assert "read by the night watch" in section
    files = export(typed(verdict), tmp_path / "out")
    defended = next(m["name"] for m in verdict["models"] if m["role"] == "defended")
    assert f"figures/night-watch-{defended}.svg" in files


def test_of_a_measure_that_is_not_installed_the_readings_are_listed(
    verdict: dict[str, Any],
) -> None:
    _by_moonlight(verdict)
    section = html.render(typed(verdict)).split('<section id="why">')[1].split("</section>")[0]
    assert "glow, the moon" in section
    assert "By the light of" not in section
    assert not any("night watch" in one for one in _rows(verdict).sentences)
