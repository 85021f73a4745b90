"""The worst attack so far against what it cost, by every axis but steps: small panels in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from titer.report import _svg as svg
from titer.report.tables import interval, look, number, value

__all__ = ["budgets"]

Verdict = Mapping[str, Any]
_WIDE, _HIGH = 236.0, 196.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 34.0, 12.0, 222.0, 150.0
_AXES = (
    ("tokens", "tokens"),
    ("examples", "unique examples"),
    ("flops", "FLOPs"),
    ("k", "trials, expected worst of k"),
)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def budgets(
    model: Verdict, undefended: Verdict | None = None, oracle: Verdict | None = None
) -> str:
    """Worst feasible harm of one model against tokens, unique examples, FLOPs and trials.

    A point is the strongest attack at one budget of steps, at what that attack has cost by then;
    the last panel is what the best of k trials is expected to reach. Empty where nothing was
    scored.
    """
    subjects = [(undefended, "undefended"), (oracle, "oracle"), (model, "model")]
    shown = [(one, kind) for one, kind in subjects if one is not None and _points(one, "tokens")]
    if not _points(model, "tokens"):
        return ""
    phi = look(model, "pillars", "resistance").get("phi")
    body: list[str] = []
    for place, (axis, title) in enumerate(_AXES):
        drawn = [(kind, _points(one, axis)) for one, kind in shown]
        panel = _panel(drawn, title, phi)
        body.append(svg.el("g", *panel, transform=f"translate({svg.coordinate(place * _WIDE)},0)"))
    name = str(model.get("name", ""))
    return svg.document(
        _WIDE * len(_AXES),
        _HIGH,
        f"Worst harm of {name} against other budgets",
        "Worst feasible harm against tokens, unique examples and floating-point operations of the "
        "attack that reaches it, and against the number of trials, on logarithmic axes.",
        *body,
    )


def _points(model: Verdict, axis: str) -> list[tuple[float, Verdict, str]]:
    """What was spent, the harm, and by which attack; spending that falls is carried on, since what
    a smaller budget reached can be had for it."""
    found = look(model, "pillars", "resistance")
    if axis == "k":
        searched = cast(Sequence[Verdict], found.get("search") or ())
        return [(float(one["k"]), one, "") for one in searched if one.get("value") is not None]
    points: list[tuple[float, Verdict, str]] = []
    for point in cast(Sequence[Verdict], found.get("curve") or ()):
        spent, harm = point.get(axis), look(point, "harm")
        if isinstance(spent, int | float) and harm.get("value") is not None:
            points.append((float(spent), harm, str(point.get("attack") or "")))
    return sorted(points, key=lambda one: (one[0], float(one[1]["value"])))


def _panel(
    drawn: Sequence[tuple[str, list[tuple[float, Verdict, str]]]], title: str, phi: object
) -> list[str]:
    y = svg.Linear(0.0, 1.0, _BOTTOM, _TOP)
    positive = [at for _, points in drawn for at, _, _ in points if at > 0] or [1.0]
    x = svg.StepAxis(min(positive), max(positive), _LEFT + 6, _RIGHT, gap=18.0)
    parts: list[str] = []
    for level in (0.0, 0.5, 1.0):
        parts.append(svg.line(_LEFT, y(level), _RIGHT, y(level), "grid" if level else "axis"))
        parts.append(svg.text(_LEFT - 6, y(level) + 4, f"{level:g}", "tick", "end"))
    known = min((at for _, points in drawn for at, _, _ in points), default=0.0)
    for tick in (one for one in x.ticks(room=40.0) if one >= known):
        parts.append(svg.line(x(tick), _BOTTOM, x(tick), _BOTTOM + 4, "axis"))
        parts.append(svg.text(x(tick), _BOTTOM + 17, _short(tick), "tick", "middle"))
    parts.append(svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 37, title, "title", "middle"))
    if isinstance(phi, int | float):
        parts.append(svg.line(_LEFT, y(phi), _RIGHT, y(phi), "rule phi"))
    for kind, points in drawn:
        highest = 0.0
        places: list[tuple[float, float] | None] = []
        for at, harm, _ in points:
            highest = max(highest, min(float(harm["value"]), 1.0))
            places.append((x(at), y(highest)))
        parts.append(svg.polyline(places, f"line {kind}"))
        parts += [_dot(x(at), y, at, harm, by) for at, harm, by in points if kind == "model"]
    return parts


def _dot(cx: float, y: svg.Linear, at: float, harm: Verdict, by: str) -> str:
    said = f"{_short(at)}: {value(harm)} {interval(harm)}".strip() + (f", {by}" if by else "")
    words = svg.el("title", svg.escape(said))
    return svg.el("circle", words, cx=cx, cy=y(float(harm["value"])), r=2.6, class_="dot model")


def _short(spent: float) -> str:
    if spent >= 1e15:
        return f"{spent:.0e}".replace("+", "")
    for unit, letter in _UNITS:
        if spent >= unit:
            return f"{spent / unit:.3g}{letter}"
    return number(spent, "steps")
