"""Resistance against what it cost: two panels, one a measure of resistance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from titer.core.records import Estimate
from titer.report import _svg as svg
from titer.report.models import in_order
from titer.report.numbers import number, shown
from titer.report.section import Section, Svg
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "data", "figures", "pareto"]

SECTION = Section(
    title="Resistance and utility, side by side", after="budgets", nav="Resistance and utility"
)

_SMALL = 12.0
Axis = Literal["weak", "r_star"]
_SQUARE = (460.0, 360.0)
_FIELD = (48.0, 34.0, 446.0, 306.0)


@dataclass(frozen=True, slots=True)
class Rows:
    """The models, the margin, and those that no panel can place, by name."""

    models: tuple[ModelVerdict, ...]
    margin: float
    unplaced: tuple[str, ...]


def data(verdict: Verdict) -> Rows | None:
    """Every model; those without both numbers are named."""
    models = tuple(in_order(verdict))
    lost = tuple(
        model.name for model in models if not (_pair(model, "weak") and _pair(model, "r_star"))
    )
    return Rows(models, verdict.settings.margin, lost) if models else None


def figures(rows: Rows) -> dict[str, Svg]:
    """Worst harm, and R*, against what the defence cost."""
    return {
        "harm-utility": pareto(rows.models, "weak", margin=rows.margin),
        "resistance-utility": pareto(rows.models, "r_star", margin=rows.margin),
    }


def pareto(
    models: Sequence[ModelVerdict], axis: Axis = "weak", *, margin: float | None = None
) -> Svg:
    """Resistance against what it cost: utility change on x, worst harm or R* on y.

    Whiskers are intervals; the dashed staircase joins the defended models that no other beats on
    both axes; the grey strip is the equivalence margin. Models without both numbers are left out.
    """
    placed = [(model, *pair) for model in models if (pair := _pair(model, axis))]
    left, top, right, bottom = _FIELD
    x, y = _pareto_scales(placed, axis, margin)
    better_up = axis == "r_star"
    body: list[str] = []
    if margin:
        a, b = max(x(-100 * margin), left), min(x(100 * margin), right)
        body.append(svg.el("rect", x=a, y=top, width=b - a, height=bottom - top, class_="margin"))
    body += _pareto_frame(x, y, axis)
    phis = {model.resistance.phi for model, _, _ in placed}
    if axis == "weak" and len(phis) == 1:
        phi = phis.pop()
        body.append(svg.line(left, y(phi), right, y(phi), "rule phi"))
        body.append(svg.text(left + 5, y(phi) - 5, f"φ {number(phi)}", "tick"))
    body += [_staircase(placed, x, y, better_up=better_up)]
    for model, dx, dy in placed:
        body.append(_whiskers(dx, dy, x, y))
        place = (x(100 * dx.at), y(dy.at))
        body.append(_marker(model.role, *place, _pareto_title(model, dx, dy)))
    body += _point_labels(placed, x, y)
    if not placed:
        body.append(
            svg.text(
                (left + right) / 2,
                (top + bottom) / 2,
                "no model has both numbers",
                "note",
                "middle",
            )
        )
    word = "R*" if better_up else "Worst harm W(B)"
    where = "up and to the right" if better_up else "down and to the right"
    return svg.document(
        *_SQUARE,
        f"{word} against utility change",
        f"{len(placed)} models; better is {where}.",
        *body,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A coordinate of a model: where it is, and the estimate behind it."""

    at: float
    est: Estimate

    def ends(self, scale: float = 1.0) -> tuple[float, float]:
        """The interval, no narrower than the point."""
        low, high = self.est.low, self.est.high
        return (
            scale * (self.at if low is None else min(low, self.at)),
            scale * (self.at if high is None else max(high, self.at)),
        )


def _pair(model: ModelVerdict, axis: Axis) -> tuple[_Place, _Place] | None:
    """Utility change and resistance; an undefended model has changed nothing by definition. A model
    of which nothing may be claimed has no place, unless it was breached."""
    if model.withheld and model.word != "breached":
        return None
    dx = model.stability.worst_delta
    dy = model.resistance.r_star if axis == "r_star" else model.resistance.weak
    if dx.value is None and model.role == "undefended":
        dx = Estimate(value=0.0)
    return (
        None
        if dx.value is None or dy.value is None
        else (_Place(dx.value, dx), _Place(dy.value, dy))
    )


_Placed = tuple[ModelVerdict, _Place, _Place]


def _pareto_scales(
    placed: Sequence[_Placed], axis: Axis, margin: float | None
) -> tuple[svg.Linear, svg.Linear]:
    left, top, right, bottom = _FIELD
    spans = [dx.ends(100.0) for _, dx, _ in placed] or [(-1.0, 1.0)]
    edge = 100 * margin if margin else 1.0
    low = min(-edge, *(span[0] for span in spans))
    high = max(min(edge, 1.0), *(span[1] for span in spans))
    pad = 0.06 * (high - low)
    heights = [dy.ends() for _, _, dy in placed] or [(0.0, 1.0)]
    floor = min(0.0, *(span[0] for span in heights))
    ceiling = max(1.0, *(span[1] for span in heights))
    room = 0.04 * (ceiling - floor)
    if axis == "weak":
        floor, ceiling, room = 0.0, 1.0, 0.04
    return (
        svg.Linear(low - pad, high + pad, left, right),
        svg.Linear(floor - room, ceiling + room, bottom, top),
    )


def _pareto_frame(x: svg.Linear, y: svg.Linear, axis: Axis) -> Iterator[str]:
    left, top, right, bottom = _FIELD
    for tick in svg.nice_ticks(y.low, y.high):
        if y.low <= tick <= y.high:
            yield svg.line(left, y(tick), right, y(tick), "grid")
            yield svg.text(left - 7, y(tick) + 4, number(tick).removesuffix("0"), "tick", "end")
    for tick in svg.nice_ticks(x.low, x.high, 7):
        if x.low <= tick <= x.high:
            yield svg.line(x(tick), bottom, x(tick), bottom + 4, "axis")
            shown = number(tick / 100, "points").removesuffix(".0")
            yield svg.text(x(tick), bottom + 17, shown, "tick", "middle")
    yield svg.line(x(0), top, x(0), bottom, "zero")
    yield svg.line(left, bottom, right, bottom, "axis")
    middle = (left + right) / 2
    yield svg.text(middle, bottom + 38, "utility change, worst suite (points)", "title", "middle")
    name = "R* (1 = never learned)" if axis == "r_star" else "worst harm W(B)"
    yield svg.text(6, 16, name, "title")
    arrow = "better ↗" if axis == "r_star" else "better ↘"
    yield svg.text(right, 16, arrow, "better", "end")


def _staircase(
    placed: Sequence[_Placed],
    x: svg.Linear,
    y: svg.Linear,
    *,
    better_up: bool,
) -> Svg:
    sign = 1.0 if better_up else -1.0
    points = [(dx.at, dy.at) for model, dx, dy in placed if model.role == "defended"]
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (-p[0], -sign * p[1])):
        if not front or sign * point[1] > sign * front[-1][1]:
            front.append(point)
    if len(front) < 2:
        return ""
    path: list[tuple[float, float]] = []
    for at, (px, py) in enumerate(front):
        if at:
            path.append((x(100 * px), path[-1][1]))
        path.append((x(100 * px), y(py)))
    return svg.polyline(path, "front", "not beaten on both axes by another defended model")


def _whiskers(dx: _Place, dy: _Place, x: svg.Linear, y: svg.Linear) -> Svg:
    cx, cy = x(100 * dx.at), y(dy.at)
    (left, right), (low, high) = dx.ends(100.0), dy.ends()
    return svg.line(x(left), cy, x(right), cy, "whisker") + svg.line(
        cx, max(y(high), _FIELD[1]), cx, min(y(low), _FIELD[3]), "whisker"
    )


def _pareto_title(model: ModelVerdict, dx: _Place, dy: _Place) -> Svg:
    utility = shown(dx.est, "points")
    return f"{model.name}: {shown(dy.est)}; utility {utility} points"


def _marker(role: str, cx: float, cy: float, title: str) -> Svg:
    """A shape for each role, so that colour is not the only channel."""
    c = svg.coordinate
    said = svg.el("title", svg.escape(title))
    if role == "undefended":
        path = f"M{c(cx - 5)},{c(cy - 5)}h10v10h-10z"
    elif role == "oracle":
        path = f"M{c(cx)},{c(cy - 7)}l7,7l-7,7l-7,-7z"
    elif role == "control":
        path = f"M{c(cx)},{c(cy - 6.5)}l6.5,11h-13z"
    else:
        return svg.el("circle", said, cx=cx, cy=cy, r=5.5, class_="mark defended")
    return svg.el("path", said, d=path, class_=f"mark {role}")


def _point_labels(placed: Sequence[_Placed], x: svg.Linear, y: svg.Linear) -> Iterator[str]:
    """Names beside the points: of eight places the one that covers least."""
    left, top, right, bottom = _FIELD
    spots = [(x(100 * a.at), y(b.at)) for _, a, b in placed]
    taken = [(px - 8, py - 8, px + 8, py + 8) for px, py in spots]
    for (px, py), (_, dx, dy) in zip(spots, placed, strict=True):  # names keep off the whiskers
        (west, east), (low, high) = dx.ends(100.0), dy.ends()
        taken.append((x(west), py - 2, x(east), py + 2))
        taken.append((px - 2, y(high), px + 2, y(low)))
    for at, (model, _, _) in enumerate(placed):
        name = svg.clip(model.name, 170, _SMALL)
        wide, (px, py) = svg.width_of(name, _SMALL), spots[at]
        best, cost = (px + 10, py - 8), float("inf")
        for dx, dy in _AROUND:
            x0 = px + dx if dx > 0 else px + dx - wide if dx < 0 else px - wide / 2
            box = (x0, py + dy - 10, x0 + wide, py + dy + 3)
            outside = box[0] < left or box[2] > right or box[1] < top or box[3] > bottom
            price = 1e4 * outside + sum(_overlap(box, other) for other in taken)
            if price < cost:
                best, cost = (x0, py + dy), price
        taken.append((best[0], best[1] - 10, best[0] + wide, best[1] + 3))
        yield svg.text(*best, name, f"label name {model.role}")


_AROUND = ((10, -8), (-10, -8), (10, 17), (-10, 17), (0, -14), (0, 23), (12, 4), (-12, 4))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
