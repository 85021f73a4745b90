"""Figures: right places, valid XML, nothing unescaped, and every degenerate study drawn."""

from __future__ import annotations

import math
import re
from copy import deepcopy
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from made_verdict import made

from titer.report import _svg as svg
from titer.report import figures
from titer.report._budgets import budgets
from titer.report.tables import interval, value

NS = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('x')</script>\" onload=\"x & \x00\x0b\ud800"


def parsed(drawing: str) -> ElementTree.Element:
    """The drawing as XML, which fails when it is not."""
    return ElementTree.fromstring(drawing)


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(node.itertext()) for node in root.iter(f"{NS}text")]


def drawn(verdict: dict[str, Any]) -> list[str]:
    models = verdict["models"]
    return [
        figures.recovery(models[-1], models[0], models[1], chance=0.25, last=3000),
        figures.pareto(models, "weak", margin=0.02),
        figures.pareto(models, "r_star"),
        figures.heatmap(verdict["suite"]["rows"], models),
        *(drawing for model in models if (drawing := figures.shares(model))),
    ]


def test_every_figure_is_xml_with_a_title_and_a_description() -> None:
    for drawing in drawn(made()):
        root = parsed(drawing)
        assert root.tag == f"{NS}svg"
        assert [child.tag for child in root][:2] == [f"{NS}title", f"{NS}desc"]
        assert root[0].text
        assert root[1].text
        assert not re.search(r"\bnan\b|\binf\b", drawing.lower().replace("infinit", ""))


def test_hostile_names_stay_text() -> None:
    verdict = made(rows=3, models=4)
    for model in verdict["models"]:
        model["name"] = NASTY
        model["attacks"][0] |= {"title": NASTY, "row": NASTY, "validity": f"suspect: {NASTY}"}
        model["curves"][0]["row"] = NASTY
        model["pillars"]["resistance"]["curve"][0]["attack"] = NASTY
    verdict["suite"]["rows"][0] |= {"id": NASTY, "title": NASTY, "family": NASTY}
    for drawing in drawn(verdict):
        root = parsed(drawing)
        drawing.encode()
        assert not list(root.iter(f"{NS}script"))
        assert not [n for node in root.iter() for n in node.attrib if n.startswith("on")]


def test_the_step_axis_has_a_true_zero_and_equal_decades() -> None:
    x = svg.StepAxis(1.0, 1000.0, 10.0, 310.0, gap=20.0)
    assert x(0) == 10.0
    assert x(1) == 30.0
    assert x(1000) == 310.0
    decades = [x(10.0 ** (n + 1)) - x(10.0**n) for n in range(3)]
    assert decades == pytest.approx([decades[0]] * 3)
    assert x.ticks()[0] == 0.0
    assert x.ticks() == sorted(x.ticks())


def test_a_step_axis_of_one_step_still_works() -> None:
    x = svg.StepAxis(1.0, 1.0, 0.0, 100.0)
    assert x.ticks() == [0.0, 1.0]
    assert math.isfinite(x(1.0))


def test_the_envelope_is_drawn_where_the_numbers_are() -> None:
    verdict = made()
    model = verdict["models"][4]
    root = parsed(figures.recovery(model, verdict["models"][0], last=3000))
    dots = [node for node in root.iter(f"{NS}circle") if node.get("class") == "dot model"]
    curve = model["pillars"]["resistance"]["curve"]
    left, top, right, bottom = figures._PLOT
    y = svg.Linear(0.0, 1.0, bottom, top)
    x = svg.StepAxis(1.0, 3000.0, left + 8, right)
    assert len(dots) == len(curve)
    for dot, point in zip(dots, curve, strict=True):
        assert float(dot.get("cx", "")) == pytest.approx(x(point["steps"]), abs=0.051)
        assert float(dot.get("cy", "")) == pytest.approx(y(point["harm"]["value"]), abs=0.051)
    assert f"{curve[-1]['harm']['value']:.2f} worst attack" in texts(root)
    assert any("undefended" in words for words in texts(root))
    assert not any("never learned" in words for words in texts(root))


def test_a_withheld_worst_case_is_not_drawn() -> None:
    verdict = made()
    root = parsed(figures.recovery(verdict["models"][6], verdict["models"][0]))
    assert "worst harm withheld" in texts(root)
    assert not [n for n in root.iter(f"{NS}circle") if n.get("class") == "dot model"]


def test_the_pareto_plot_places_known_models_and_leaves_out_the_withheld() -> None:
    verdict = made()
    root = parsed(figures.pareto(verdict["models"], "weak"))
    marks = [node for node in root.iter() if (node.get("class") or "").startswith("mark ")]
    assert len(marks) == len(verdict["models"]) - 1
    said = [mark[0].text or "" for mark in marks]
    assert not any(text.startswith("rmu+booster") for text in said)
    assert "rmu: 0.68 [0.64, 0.71]; utility −2.5 [−3.4, −1.6] points" in said
    assert "better ↘" in texts(root)
    assert "better ↗" in texts(parsed(figures.pareto(verdict["models"], "r_star")))


def test_an_undefended_model_sits_at_no_change() -> None:
    model = made(models=1)["models"][0]
    model["pillars"]["stability"]["worst_delta"]["value"] = None
    assert "mark undefended" in figures.pareto([model], "weak")


def test_heat_map_cells_say_outcome_and_harm_and_mark_what_is_not_valid() -> None:
    verdict = made()
    root = parsed(figures.heatmap(verdict["suite"]["rows"], verdict["models"]))
    cells = [node for node in root.iter(f"{NS}g") if (node.get("class") or "").startswith("cell ")]
    assert len(cells) == len(verdict["suite"]["rows"]) * len(verdict["models"])
    kinds = {node.get("class") for node in cells}
    assert kinds == {"cell held", "cell breached", "cell degraded", "cell bricked", "cell none"}
    said = [node[0].text or "" for node in cells]
    harm = verdict["models"][4]["attacks"][1]["harm"]
    assert f"S03 on rmu: breached, harm {value(harm)} {interval(harm)}" in said
    assert any(text.startswith("P02 on rmu+booster: no result") for text in said)
    assert {"void", "failed", "0.66?"} <= set(texts(root))


def test_families_stand_together_whatever_the_order_of_rows() -> None:
    verdict = made()
    rows = verdict["suite"]["rows"]
    shuffled = rows[::2] + rows[1::2]
    root = parsed(figures.heatmap(shuffled, verdict["models"]))
    heads = [n.text for n in root.iter(f"{NS}text") if n.get("class") == "family"]
    assert len(heads) == len({row["family"] for row in rows})


@pytest.mark.parametrize("models", [[], [{}], [{"name": "x", "role": "defended"}]])
def test_degenerate_models_are_drawn(models: list[dict[str, Any]]) -> None:
    parsed(figures.pareto(models, "weak"))
    parsed(figures.heatmap([], models))
    parsed(figures.heatmap([{"id": "S01"}], models))
    for model in models:
        parsed(figures.recovery(model))


def test_one_point_without_interval_is_drawn() -> None:
    harm = {"value": 0.4, "low": None, "high": None}
    curve = [{"steps": 0, "harm": harm, "harm_unconstrained": harm, "attack": "S01"}]
    model = {"name": "x", "pillars": {"resistance": {"curve": curve, "weak": harm}}}
    parsed(figures.recovery(model))


def test_labels_keep_their_distance_and_order() -> None:
    placed = svg.spread([100.0, 101.0, 50.0, 102.0], svg.Band(0.0, 110.0, 15.0))
    ordered = sorted(placed)
    assert min(b - a for a, b in pairwise(ordered)) >= 15.0 - 1e-9
    assert max(placed) <= 110.0
    assert placed[2] == 50.0
    assert svg.spread([], svg.Band(0.0, 1.0, 1.0)) == []


def test_long_names_are_wrapped_and_clipped() -> None:
    lines = svg.wrap("unlearn-noise-distil-and-a-very-long-tail-indeed", 80, 12, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(svg.width_of(words, 12) <= 80 for words in lines)
    assert svg.wrap("x" * 200, 80, 12, 3)[0] != ""
    assert svg.wrap("", 80, 12, 3) == []


def test_ticks_cover_the_range_with_round_numbers() -> None:
    ticks = svg.nice_ticks(-8.7, 1.2, 7)
    assert ticks[0] <= -8.7
    assert ticks[-1] >= 1.2
    assert 0.0 in ticks


def test_the_in_domain_curve_rises_with_the_share_and_is_logarithmic() -> None:
    model = next(m for m in made()["models"] if m["name"] == "rmu")
    root = parsed(figures.shares(model))
    dots = [node for node in root.iter(f"{NS}circle")]
    x, y = ([float(dot.attrib[axis]) for dot in dots] for axis in ("cx", "cy"))
    assert x == sorted(x)
    assert y == sorted(y, reverse=True), "more resistance stands higher"
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(math.log(3) / math.log(10), abs=0.01)
    said = ["".join(dot.itertext()) for dot in dots]
    assert "30" in said[1]
    assert "0.25 [0.17, 0.33]" in said[1]
    assert len([node for node in root.iter(f"{NS}line") if node.get("class") == "whisker"]) == 3


def test_an_in_domain_curve_that_was_not_measured_is_not_drawn() -> None:
    assert figures.shares(made()["models"][0]) == ""
    assert figures.shares({"name": "x"}) == ""
    model = next(m for m in made()["models"] if m["name"] == "rmu")
    for point in model["pillars"]["generalisation"]["curve"]:
        point["r_star"] = {"value": None, "low": None, "high": None, "note": "withheld"}
    drawing = figures.shares(model)
    assert "no point has a number" in texts(parsed(drawing))
    assert "<circle" not in drawing


def test_budgets_show_every_axis_and_never_fall() -> None:
    """The best attack at a budget may cost less than that at a smaller one: the line does not go
    back down for it."""
    model = deepcopy(made(models=3)["models"][2])
    curve = [
        {"steps": 0, "tokens": 0, "examples": 0, "flops": 0, "harm": {"value": 0.1}},
        {"steps": 10, "tokens": 9000, "examples": 40, "flops": 2e12, "harm": {"value": 0.5}},
        {"steps": 30, "tokens": 3000, "examples": 80, "flops": 4e15, "harm": {"value": 0.7}},
    ]
    search = [{"k": 1, "value": 0.3}, {"k": 20, "value": 0.6}]
    model["pillars"]["resistance"] |= {"curve": curve, "search": search, "phi": 0.4}
    drawn = budgets(model)
    for title in ("tokens", "unique examples", "FLOPs", "trials, expected worst of k"):
        assert f">{title}<" in drawn
    paths = re.findall(r'<(?:polyline|path)[^>]*class="line model"[^>]*>', drawn)
    assert len(paths) == 4
    for path in paths:
        heights = [float(y) for _, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]
        assert heights == sorted(heights, reverse=True), (
            "harm rises, so its place on the page falls"
        )
    assert "9k: 0.50" in drawn
    assert "4e15: 0.70" in drawn
    assert budgets({"pillars": {"resistance": {"curve": []}}}) == ""


def test_long_names_of_rows_are_whole() -> None:
    rows = [{"id": f"TAR-K-retain-{n}", "title": "benign first", "family": "x"} for n in range(2)]
    drawn = figures.heatmap(rows, [])
    assert "…" not in drawn
    assert all(f">{row['id']}<" in drawn for row in rows)
