"""Figures: right places, valid XML, nothing unescaped, and every degenerate study drawn."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from made_verdict import made, study, typed

from titer.core.families import FAMILIES
from titer.core.records import Estimate
from titer.core.study import Row
from titer.pillars.worst import BestOf, BudgetPoint
from titer.report import _svg as svg
from titer.report.glossary import OUTCOMES
from titer.report.numbers import interval, value
from titer.report.section import parts
from titer.report.sections import recovery as recovery_section
from titer.report.sections.budgets import budgets
from titer.report.sections.outcomes import heatmap
from titer.report.sections.pareto import pareto
from titer.report.sections.recovery import recovery
from titer.report.sections.shares import shares
from titer.verdict.parts import ModelVerdict, Verdict

NS = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('x')</script>\" onload=\"x & \x00\x0b\ud800"


def parsed(drawing: str) -> ElementTree.Element:
    """The drawing as XML, which fails when it is not."""
    return ElementTree.fromstring(drawing)


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(node.itertext()) for node in root.iter(f"{NS}text")]


def drawn(verdict: Verdict) -> dict[str, str]:
    """Every drawing of every section by name."""
    return {name: one for part in parts(verdict) for name, one in part.figures().items()}


def _with(model: ModelVerdict, **changes: Any) -> ModelVerdict:
    """The model with other fields of its resistance."""
    return replace(
        model, pillars={**model.pillars, "resistance": replace(model.resistance, **changes)}
    )


def test_every_figure_is_xml_with_a_title_and_a_description() -> None:
    found = drawn(study())
    assert {"outcomes", "harm-utility", "recovery-rmu", "budgets-rmu", "shares-rmu"} <= set(found)
    for drawing in found.values():
        root = parsed(drawing)
        assert root.tag == f"{NS}svg"
        assert [child.tag for child in root][:2] == [f"{NS}title", f"{NS}desc"]
        assert root[0].text
        assert root[1].text
        assert not re.search(r"\bnan\b|\binf\b", drawing.lower().replace("infinit", ""))


def test_every_figure_says_what_its_axes_are_and_of_which_model_it_is() -> None:
    axes = {
        "recovery-rmu": ("rmu", "harm on held-out items", "attack steps (logarithmic)"),
        "budgets-rmu": ("rmu", "harm", "tokens (logarithmic)", "threshold φ", "this model"),
        "shares-rmu": ("rmu", "R*", "share of the hazard the defender had (logarithmic)"),
        "harm-utility": ("rmu", "worst harm W(B)", "utility change, worst suite (points)"),
        "resistance-utility": ("rmu", "R* (1 = never learned)"),
        "outcomes": ("rmu", "held: utility kept, harm below the threshold"),
    }
    found = drawn(study())
    for name, words in axes.items():
        said = texts(parsed(found[name]))
        for word in words:
            assert any(word in one for one in said), (name, word)


def test_hostile_names_stay_text() -> None:
    content = made(rows=3, models=4)
    for model in content["models"]:
        model["name"] = NASTY + model["role"]
        model["attacks"][0] |= {"title": NASTY, "row": NASTY, "standing": "suspect"}
        model["curves"][0]["row"] = NASTY
        model["pillars"]["resistance"]["curve"][0]["attack"] = NASTY
    content["suite"]["rows"][0] |= {"id": NASTY, "title": NASTY, "family": NASTY}
    for drawing in drawn(typed(content)).values():
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
    verdict = study()
    model = verdict["rmu"]
    root = parsed(recovery(model, verdict["base"], last=300))
    dots = [node for node in root.iter(f"{NS}circle") if node.get("class") == "dot model"]
    curve = model.resistance.curve
    left, top, right, bottom = recovery_section._PLOT
    y = svg.Linear(0.0, 1.0, bottom, top)
    x = svg.StepAxis(1.0, 300.0, left + 8, right)
    assert len(dots) == len(curve) > 3
    for dot, point in zip(dots, curve, strict=True):
        assert point.harm.value is not None
        assert float(dot.get("cx", "")) == pytest.approx(x(point.steps), abs=0.051)
        assert float(dot.get("cy", "")) == pytest.approx(y(point.harm.value), abs=0.051)
    assert f"{value(curve[-1].harm)} worst attack" in texts(root)
    assert any("undefended" in words for words in texts(root))
    assert not any("never learned" in words for words in texts(root))
    attacks = [n for n in root.iter(f"{NS}path") if (n.get("class") or "").startswith("attack")]
    assert len(attacks) == len(model.curves)


def test_a_withheld_worst_case_is_not_drawn() -> None:
    verdict = study()
    root = parsed(recovery(verdict["rmu+booster"], verdict["base"]))
    assert "worst harm withheld" in texts(root)
    assert not [n for n in root.iter(f"{NS}circle") if n.get("class") == "dot model"]


def test_the_pareto_plot_places_known_models_and_leaves_out_the_withheld() -> None:
    verdict = study()
    root = parsed(pareto(verdict.models, "weak"))
    marks = [node for node in root.iter() if (node.get("class") or "").startswith("mark ")]
    assert len(marks) == len(verdict) - 1
    said = [mark[0].text or "" for mark in marks]
    assert not any(text.startswith("rmu+booster") for text in said)
    model = verdict["rmu"]
    weak, moved = model.resistance.weak, model.stability.worst_delta
    points = f"{value(moved, 'points')} {interval(moved, 'points')}"
    assert f"rmu: {value(weak)} {interval(weak)}; utility {points} points" in said
    (mark,) = [mark for mark in marks if (mark[0].text or "").startswith("rmu:")]
    assert mark.get("class") == "mark defended"
    # The higher the worst harm, the higher the mark; the more utility lost, the further left.
    places = {
        (one[0].text or "").split(":")[0]: (float(one.get("cx", "")), float(one.get("cy", "")))
        for one in marks
        if one.get("cx")
    }
    assert places["rmu"][1] < places["unlearn-noise-distil"][1]
    assert "better ↘" in texts(root)
    assert "better ↗" in texts(parsed(pareto(verdict.models, "r_star")))


def test_an_undefended_model_sits_at_no_change() -> None:
    base = study()["base"]
    lost = replace(base.stability, worst_delta=Estimate(value=None))
    model = replace(base, pillars={**base.pillars, "stability": lost})
    assert "mark undefended" in pareto([model], "weak")


def test_heat_map_cells_say_outcome_and_harm_and_mark_what_is_not_valid() -> None:
    content = made()
    attacks = {model["name"]: model["attacks"] for model in content["models"]}
    attacks["rmu"][0] |= {"standing": "void", "outcome": "void"}
    attacks["rmu"][2] |= {"standing": "suspect", "reason": "S5 loss-did-not-fall"}
    attacks["trap"][3]["outcome"] = "degraded breach"
    verdict = typed(content)
    root = parsed(heatmap(verdict.suite.rows, verdict.models))
    cells = [n for n in root.iter(f"{NS}g") if (n.get("class") or "").startswith("cell ")]
    cells = [node for node in cells if "legend" not in (node.get("class") or "")]
    assert len(cells) == len(verdict.suite.rows) * len(verdict)
    kinds = {node.get("class") for node in cells}
    assert kinds == {"cell held", "cell breached", "cell degraded", "cell bricked", "cell none"}
    said = [node[0].text or "" for node in cells]
    harm = verdict["rmu"].attacks["S03"].harm
    phi = verdict["rmu"].resistance.phi
    means = OUTCOMES["breached"][1]
    told = f"S03 on rmu: breached ({means}), harm {value(harm)} {interval(harm)}, "
    told += f"threshold {phi:.2f}"
    assert told in said
    doubted = verdict["rmu"].attacks["S05"].harm
    assert {"void", f"{value(doubted)}?"} <= set(texts(root))


def test_a_cell_shows_enough_digits_to_tell_its_side_of_the_threshold() -> None:
    content = made(rows=3, models=3)
    model = content["models"][2]
    near = model["pillars"]["resistance"]["phi"] - 0.0002
    model["attacks"][0] |= {"outcome": "held", "by_seed": ["held"] * 3}
    model["attacks"][0]["harm"]["value"] = near
    verdict = typed(content)
    assert f"{near:.4f}" in texts(parsed(heatmap(verdict.suite.rows, verdict.models)))


def test_families_stand_in_the_order_of_the_table_of_attacks() -> None:
    verdict = study()
    rows = (*verdict.suite.rows[::2], *verdict.suite.rows[1::2])
    root = parsed(heatmap(rows, verdict.models))
    heads = [n.text for n in root.iter(f"{NS}text") if n.get("class") == "family"]
    present = {row.family for row in rows}
    assert heads == [family for family in FAMILIES if family in present]
    assert len(heads) > 4


def test_no_models_are_drawn_as_such() -> None:
    assert "no model has both numbers" in texts(parsed(pareto([], "weak")))
    assert "undefended" not in texts(parsed(heatmap(study().suite.rows, [])))


def test_one_point_without_interval_is_drawn() -> None:
    harm = Estimate(value=0.4)
    point = BudgetPoint(
        steps=0, tokens=0, examples=0, flops=0.0, harm=harm, harm_unconstrained=harm, attack="S01"
    )
    model = replace(_with(study()["rmu"], curve=(point,), weak=harm), curves={})
    root = parsed(recovery(model))
    assert len([n for n in root.iter(f"{NS}circle")]) == 1
    assert "0.40 worst attack" in texts(root)


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
    root = parsed(shares(study()["rmu"]))
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
    assert shares(study()["base"]) == ""
    model = study()["rmu"]
    gone = Estimate(value=None, note="withheld")
    points = tuple(replace(point, r_star=gone) for point in model.generalisation.curve)
    bare = replace(model.generalisation, curve=points)
    drawing = shares(replace(model, pillars={**model.pillars, "generalisation": bare}))
    assert "no point has a number" in texts(parsed(drawing))
    assert "<circle" not in drawing


def _point(steps: int, tokens: int, examples: int, flops: float, harm: float) -> BudgetPoint:
    est = Estimate(value=harm)
    return BudgetPoint(
        steps=steps,
        tokens=tokens,
        examples=examples,
        flops=flops,
        harm=est,
        harm_unconstrained=est,
        attack="S03",
    )


def test_budgets_show_every_axis_and_every_circle_stands_on_its_line() -> None:
    """The best attack at a budget may cost less than that at a smaller one: then the dearer one is
    no point of the line."""
    curve = (
        _point(0, 0, 0, 0.0, 0.1),
        _point(10, 9000, 40, 2e12, 0.5),
        _point(30, 3000, 80, 4e15, 0.7),
    )
    search = (BestOf(k=1, value=0.3), BestOf(k=20, value=0.6))
    drawing = budgets(_with(study()["npo"], curve=curve, search=search, phi=0.4))
    words = texts(parsed(drawing))
    for title in ("tokens", "unique examples", "FLOPs", "trials, expected worst of k"):
        assert any(one.startswith(title) for one in words)
    panels = [n for n in parsed(drawing) if (n.get("transform") or "").startswith("translate")]
    assert len(panels) == 4
    counts = []
    for panel in panels:
        (path,) = [n for n in panel.iter(f"{NS}path") if n.get("class") == "line model"]
        corners = re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.get("d") or "")
        heights = [float(y) for _, y in corners]
        assert heights == sorted(heights, reverse=True), "harm rises, so its place falls"
        dots = list(panel.iter(f"{NS}circle"))
        assert all((dot.get("cx"), dot.get("cy")) in corners for dot in dots)
        counts.append(len(dots))
    assert counts == [3, 3, 3, 2]
    assert "3k: 0.70, S03" in drawing
    assert "4e15: 0.70, S03" in drawing
    assert budgets(_with(study()["npo"], curve=())) == ""


def test_long_names_of_rows_are_whole() -> None:
    rows = [
        Row(id=f"TAR-K-retain-{n}", title="benign first", family="data mix", source="x")
        for n in range(2)
    ]
    drawing = heatmap(rows, [])
    assert "…" not in drawing
    assert all(f">{row.id}<" in drawing for row in rows)
