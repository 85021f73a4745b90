"""The frontier as a drawing: price on a logarithmic axis, resistance with its whiskers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from titer.core.records import Estimate
from titer.report import _svg as svg

__all__ = ["Dot", "picture"]

_SIZE = (840.0, 560.0)
_LEFT, _TOP, _RIGHT, _BOTTOM = 52.0, 20.0, 490.0, 500.0
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #16191d; }
rect.paper { fill: #fff; } rect.corner { fill: #d5e5f5; }
line { stroke: #8a929d; } line.grid { stroke: #eceef1; } line.leader { stroke: #cdd2d8; }
circle { fill: #3646a3; stroke: #3646a3; } circle.lost { fill: #fff; }
text.lost { fill: #6b737d; } line.whisker { stroke: #3646a3; }
path.front { stroke: #0b6e5f; fill: none; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """An arm: its price as a share of the full one, its resistance, and whether its utility is
    left."""

    name: str
    price: float
    resistance: Estimate
    kept: bool = True


def picture(dots: Sequence[Dot], *, enough: float, price: float) -> str:
    """An SVG document. The stairs join the arms that no other beats on both axes; arms without
    their utility are hollow and no part of them. Shaded is the corner of at least ``enough``
    resistance at most at ``price``."""
    known = [dot for dot in dots if dot.resistance.value is not None and dot.price > 0]
    cheapest = min([0.01, *(dot.price for dot in known)])
    dearest = max([1.0, *(dot.price for dot in known)])
    x = svg.Linear(math.log10(cheapest), math.log10(dearest), _LEFT, _RIGHT)
    lowest = min([0.0, *(dot.resistance.value or 0.0 for dot in known)])
    y = svg.Linear(min(lowest, 0.0), 1.1, _BOTTOM, _TOP)
    right, top = x(math.log10(price)), y(enough)
    body = [
        svg.el("style", _STYLE),
        svg.el("rect", x=0.0, y=0.0, width=_SIZE[0], height=_SIZE[1], class_="paper"),
        svg.el("rect", x=_LEFT, y=_TOP, width=right - _LEFT, height=top - _TOP, class_="corner"),
        *_axes(x, y),
        _stairs([dot for dot in known if dot.kept], x, y),
    ]
    heights = [y(dot.resistance.value or 0.0) for dot in known]
    places = svg.spread(heights, svg.Band(_TOP, _BOTTOM, 12.0))
    for dot, height, place in zip(known, heights, places, strict=True):
        across = x(math.log10(dot.price))
        low, high = dot.resistance.low, dot.resistance.high
        if low is not None and high is not None:
            ends = (y(max(low, lowest)), y(min(high, 1.1)))
            body.append(svg.line(across, ends[0], across, ends[1], "whisker"))
        body.append(svg.line(across + 4, height, _RIGHT + 6, place, "leader"))
        lost = {} if dot.kept else {"class_": "lost"}
        body.append(svg.el("circle", cx=across, cy=height, r=3.5, **lost))
        body.append(svg.text(_RIGHT + 9, place + 4, dot.name, **lost))
    said = f"{len(known)} defences; sought is the upper left; hollow: utility lost."
    return svg.document(*_SIZE, "The erasure frontier", said, *body)


def _axes(x: svg.Linear, y: svg.Linear) -> list[str]:
    parts: list[str] = []
    for level in svg.nice_ticks(0.0, 1.0):
        parts.append(svg.line(_LEFT, y(level), _RIGHT, y(level), "grid"))
        parts.append(svg.text(_LEFT - 6, y(level) + 4, f"{level:g}", anchor="end"))
    for tick in _TICKS:
        if x.low <= math.log10(tick) <= x.high:
            across = x(math.log10(tick))
            parts.append(svg.line(across, _BOTTOM, across, _BOTTOM + 4, "axis"))
            parts.append(svg.text(across, _BOTTOM + 17, f"{tick:g}", anchor="middle"))
    parts.append(svg.line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"))
    title = "price of the defence, as a share of pre-training (logarithmic)"
    parts.append(svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 37, title, anchor="middle"))
    parts.append(svg.text(_LEFT, _TOP - 6, "R*"))
    return parts


def _stairs(dots: Sequence[Dot], x: svg.Linear, y: svg.Linear) -> str:
    points: list[tuple[float, float] | None] = []
    best = -math.inf
    for dot in sorted(dots, key=lambda one: (one.price, -(one.resistance.value or 0.0))):
        level = dot.resistance.value or 0.0
        if level > best:
            across = x(math.log10(dot.price))
            if points:
                points.append((across, y(best)))
            points.append((across, y(level)))
            best = level
    return svg.polyline(points, "front", "no defence beats these on both axes")
