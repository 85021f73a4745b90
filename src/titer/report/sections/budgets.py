"""The worst attack so far against what it cost, by every axis but steps: four panels a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from titer.report import _svg as svg
from titer.report.models import tested
from titer.report.numbers import Number, number, shown
from titer.report.section import Section, Svg
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "budgets", "data", "figures"]

SECTION = Section(title="By what the attacker spends", after="recovery", nav="Budgets")

_WIDE, _HIGH, _HEAD = 245.0, 206.0, 24.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 34.0, 12.0, 232.0, 150.0
Axis = Literal["tokens", "examples", "flops", "k"]
_AXES: tuple[tuple[Axis, str], ...] = (
    ("tokens", "tokens (logarithmic)"),
    ("examples", "unique examples (logarithmic)"),
    ("flops", "FLOPs (logarithmic)"),
    ("k", "trials, expected worst of k"),
)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Rows:
    """The models that have panels, and the references that stand in each."""

    models: tuple[ModelVerdict, ...]
    undefended: ModelVerdict | None
    oracle: ModelVerdict | None


def data(verdict: Verdict) -> Rows | None:
    """The models under test that were scored."""
    models = tuple(model for model in tested(verdict) if _points(model, "tokens"))
    references = verdict.reference("undefended"), verdict.reference("oracle")
    return Rows(models, *references) if models else None


def figures(rows: Rows) -> dict[str, Svg]:
    """Four panels a model."""
    return {
        f"budgets-{model.name}": budgets(model, rows.undefended, rows.oracle)
        for model in rows.models
    }


@dataclass(frozen=True, slots=True)
class _Point:
    """What was spent, the harm that it reached, and by which attack."""

    at: float
    level: float
    est: Number
    by: str = ""


def budgets(
    model: ModelVerdict,
    undefended: ModelVerdict | None = None,
    oracle: ModelVerdict | None = None,
) -> Svg:
    """Worst feasible harm of one model against tokens, unique examples, FLOPs and trials.

    A point is the strongest attack at one budget of steps, at what that attack has cost by then,
    where it does more harm than what costs less; the last panel is what the best of k trials is
    expected to reach. Empty where nothing was scored.
    """
    subjects = [(undefended, "undefended"), (oracle, "oracle"), (model, "model")]
    known = [(one, kind) for one, kind in subjects if one is not None and _points(one, "tokens")]
    if not _points(model, "tokens"):
        return ""
    title = svg.clip(f"Worst harm of {model.name} by what the attacker spends", 480, 12.0)
    body: list[Svg] = [svg.text(0, 13, title, "head")]
    for place, (axis, words) in enumerate(_AXES):
        lines = [(kind, _points(one, axis)) for one, kind in known]
        across, down = place % 2 * _WIDE, _HEAD + place // 2 * _HIGH
        where = f"translate({svg.coordinate(across)},{svg.coordinate(down)})"
        body.append(svg.el("g", *_panel(lines, words, model.resistance.phi), transform=where))
    down = _HEAD + 2 * _HIGH + 8
    body += _legend([kind for _, kind in known], down)
    return svg.document(
        2 * _WIDE,
        down + 16,
        f"Worst harm of {model.name} against other budgets",
        "Worst feasible harm against tokens, unique examples and floating-point operations of the "
        "attack that reaches it, and against the number of trials, on logarithmic axes.",
        *body,
    )


def _points(model: ModelVerdict, axis: Axis) -> list[_Point]:
    """The points that raise the harm: what a smaller budget reached can be had for it, so spending
    more for less is no point of the line."""
    found: list[_Point] = []
    if axis == "k":
        for one in model.resistance.search:
            if one.value is not None:
                found.append(_Point(float(one.k), one.value, one))
    else:
        for point in model.resistance.curve:
            if point.harm.value is not None:
                spent = float(getattr(point, axis))
                found.append(_Point(spent, point.harm.value, point.harm, point.attack))
    found.sort(key=lambda one: (one.at, one.level))
    kept: list[_Point] = []
    for one in found:
        if not kept or one.level > kept[-1].level:
            if kept and kept[-1].at == one.at:
                kept.pop()
            kept.append(one)
    if found and kept[-1].at < found[-1].at:  # the line goes on to what was spent at most
        last = kept[-1]
        kept.append(_Point(found[-1].at, last.level, last.est, last.by))
    return kept


def _panel(lines: Sequence[tuple[str, Sequence[_Point]]], title: str, phi: float) -> Iterator[Svg]:
    y = svg.Linear(0.0, 1.0, _BOTTOM, _TOP)
    positive = [one.at for _, points in lines for one in points if one.at > 0] or [1.0]
    x = svg.StepAxis(min(positive), max(positive), _LEFT + 6, _RIGHT, gap=18.0)
    for level in (0.0, 0.5, 1.0):
        yield svg.line(_LEFT, y(level), _RIGHT, y(level), "grid" if level else "axis")
        yield svg.text(_LEFT - 6, y(level) + 4, f"{level:g}", "tick", "end")
    known = min((one.at for _, points in lines for one in points), default=0.0)
    for tick in (one for one in x.ticks(room=44.0) if one >= known):
        yield svg.line(x(tick), _BOTTOM, x(tick), _BOTTOM + 4, "axis")
        yield svg.text(x(tick), _BOTTOM + 17, _short(tick), "tick", "middle")
    yield svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 36, title, "title", "middle")
    yield svg.text(0, _TOP - 4, "harm", "title")
    yield svg.line(_LEFT, y(phi), _RIGHT, y(phi), "rule phi")
    for kind, points in lines:
        places = [(x(one.at), y(min(one.level, 1.0))) for one in points]
        yield svg.polyline(_stairs(places), f"line {kind}")
        if kind == "model":
            for (cx, cy), one in zip(places, points, strict=True):
                yield _dot(cx, cy, one)


def _stairs(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Between two budgets an attacker has what the smaller one reached."""
    path = list(places[:1])
    for (x, y), (_, before) in zip(places[1:], places, strict=False):
        path += [(x, before), (x, y)] if y != before else [(x, y)]
    return path


def _dot(cx: float, cy: float, one: _Point) -> Svg:
    said = f"{_short(one.at)}: {shown(one.est)}" + (f", {one.by}" if one.by else "")
    words = svg.el("title", svg.escape(said))
    return svg.el("circle", words, cx=cx, cy=cy, r=3.0, class_="dot model")


def _legend(kinds: Sequence[str], y: float) -> Iterator[Svg]:
    words = {"model": "this model", "undefended": "undefended", "oracle": "never learned"}
    at = 0.0
    for kind in kinds:
        yield svg.polyline([(at, y), (at + 24, y)], f"line {kind}")
        yield svg.text(at + 29, y + 4, words[kind], f"label {kind}")
        at += 120.0
    yield svg.line(at, y, at + 24, y, "rule phi")
    yield svg.text(at + 29, y + 4, "threshold φ", "tick")


def _short(spent: float) -> str:
    if spent >= 1e15:
        return f"{spent:.0e}".replace("+", "")
    for unit, letter in _UNITS:
        if spent >= unit:
            return f"{spent / unit:.3g}{letter}"
    return number(spent, "steps")
