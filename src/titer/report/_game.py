"""The course of a game between an adversary and a defender: lines over steps, in stacked panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titer.report import _svg as svg
from titer.report.numbers import number

__all__ = ["Line", "Panel", "course", "panels", "race"]

Row = Mapping[str, Any]
_WIDE, _HIGH, _GAP = 560.0, 170.0, 46.0
_LEFT, _RIGHT, _TOP = 48.0, 400.0, 26.0


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name, the class that colours it, and points of step and value. A missing
    value breaks no line; it is only not drawn."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines on one scale, from ``low`` to ``high`` or to what they reach; ``rule`` is a level with
    a name."""

    title: str
    lines: Sequence[Line]
    low: float = 0.0
    high: float | None = None
    rule: tuple[float, str] | None = None


def series(rows: Sequence[Row], key: str, name: str, kind: str) -> Line:
    """A column of rows that have a ``step``."""
    found = [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
    return Line(name, kind, found)


def course(rows: Sequence[Row], name: str = "") -> str:
    """What a defence wrote down of its game, for the report; nothing where it wrote nothing."""
    if not any("success" in row for row in rows):
        return ""
    return panels(
        f"The game of {name}" if name else "The game",
        [
            Panel(
                "attack success on the defender's own prompts",
                [
                    series(rows, "success", "its adversary", "line model"),
                    series(rows, "fresh", "a new one", "line undefended"),
                ],
                high=1.0,
            ),
            Panel(
                "losses, nats",
                [
                    series(rows, "loss", "defender", "line model"),
                    series(rows, "adversary", "adversary", "line undefended"),
                ],
            ),
            Panel("length of the patch", [series(rows, "norm", "length", "line model")]),
            Panel(
                "effective rank, and spread over prompts",
                [
                    series(rows, "rank", "rank", "line model"),
                    series(rows, "variety", "spread", "line oracle"),
                ],
            ),
        ],
    )


def race(rows: Sequence[Row], title: str, *, phi: float, exam: float) -> str:
    """The picture of a race: harm and utility above, both losses below. ``rows`` are looks."""
    harm = [
        series(rows, "harm", "as it is", "attack"),
        series(rows, "current", "adversary", "line undefended"),
        series(rows, "fresh", "a new one", "line model"),
        series(rows, "utility", "utility", "line oracle"),
    ]
    last = max((float(row["step"]) for row in rows), default=0.0)
    harm.append(Line(f"{exam:.2f} at the end", "line undefended", [(last, exam)]))
    return panels(
        title,
        [
            Panel("harm on held-out facts, and utility", harm, high=1.0, rule=(phi, "φ")),
            Panel(
                "losses, nats",
                [
                    series(rows, "defender", "defender", "line model"),
                    series(rows, "adversary", "adversary", "line undefended"),
                ],
            ),
        ],
    )


def panels(title: str, stack: Sequence[Panel]) -> str:
    """Panels under one another over one axis of steps."""
    steps = [step for panel in stack for line in panel.lines for step, _ in line.points]
    x = svg.Linear(0.0, max([*steps, 1.0]), _LEFT, _RIGHT)
    body: list[str] = [svg.text(6, 13, svg.clip(title, _WIDE - 20, 12.0), "head")]
    top = _TOP + 18
    for panel in stack:
        body.append(_panel(panel, x, top))
        top += _HIGH + _GAP
    said = "; ".join(
        f"{line.name} ends at {number(line.points[-1][1])}"
        for panel in stack
        for line in panel.lines
        if line.points
    )
    body.append(svg.text((_LEFT + _RIGHT) / 2, top - 12, "steps", "title", "middle"))
    return svg.document(_WIDE, top - 2, title, f"Over the defender's steps: {said}.", *body)


def _panel(panel: Panel, x: svg.Linear, top: float) -> str:
    bottom = top + _HIGH
    values = [value for line in panel.lines for _, value in line.points]
    high = panel.high if panel.high is not None else max([*values, 1e-9])
    y = svg.Linear(panel.low, high * 1.02, bottom, top)
    body = [svg.text(_LEFT - 42, top - 9, panel.title, "title")]
    for tick in svg.nice_ticks(panel.low, high, 4):
        if panel.low <= tick <= high:
            body.append(svg.line(_LEFT, y(tick), _RIGHT, y(tick), "grid" if tick else "axis"))
            body.append(svg.text(_LEFT - 6, y(tick) + 4, f"{tick:g}", "tick", "end"))
    for tick in svg.nice_ticks(x.low, x.high, 6):
        if tick <= x.high:
            body.append(svg.line(x(tick), bottom, x(tick), bottom + 4, "axis"))
            body.append(svg.text(x(tick), bottom + 17, f"{tick:g}", "tick", "middle"))
    labels: list[tuple[float, str, str]] = []
    if panel.rule:
        level, word = panel.rule
        body.append(svg.line(_LEFT, y(level), _RIGHT, y(level), "rule"))
        labels.append((y(level), f"{level:.2f} {word}", "label"))
    for line in panel.lines:
        if not line.points:
            continue
        body.append(svg.polyline([(x(a), y(b)) for a, b in line.points], line.kind, line.name))
        colour = line.kind.split()[-1]
        labels.append((y(line.points[-1][1]), line.name, f"label {colour}"))
    band = svg.Band(top + 4, bottom, 15.0)
    places = svg.spread([wanted for wanted, _, _ in labels], band)
    for (wanted, words, class_), place in zip(labels, places, strict=True):
        if abs(place - wanted) > 1:
            body.append(svg.line(_RIGHT + 2, wanted, _RIGHT + 9, place, "leader"))
        body.append(svg.text(_RIGHT + 11, place + 4, words, class_))
    return svg.el("g", *body)
