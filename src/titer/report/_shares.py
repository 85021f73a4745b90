"""The in-domain curve: R* against the share of the hazard that the defender had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from titer.report import _svg as svg
from titer.report.tables import interval, look, number, share_name, value

__all__ = ["shares"]

Verdict = Mapping[str, Any]
_SIZE = (460.0, 300.0)
_FIELD = (48.0, 26.0, 360.0, 240.0)  # left, top, right, bottom


def shares(model: Verdict) -> str:
    """R* by share for one model, with intervals, or nothing where it was not measured.

    The axis of shares is logarithmic. The rules at 0 and 1 are the undefended model and the one
    that never learned. Points without a number are left out.
    """
    curve = look(model, "pillars", "generalisation").get("curve")
    points = cast(Sequence[Verdict], curve or ())
    if not points:
        return ""
    left, top, right, bottom = _FIELD
    known = [point for point in points if look(point, "r_star").get("value") is not None]
    ends = [0.0, 1.0]
    for point in known:
        est = look(point, "r_star")
        ends += [cast(float, est[end]) for end in ("value", "low", "high") if est[end] is not None]
    y = svg.Linear(min(ends) - 0.05, max(ends) + 0.05, bottom, top)
    x = svg.Linear(math.log(points[0]["share"]), 0.0, left + 14, right - 6)
    body = list(_frame(points, x, y))
    places = [(x(math.log(p["share"])), y(look(p, "r_star")["value"])) for p in known]
    body.append(svg.polyline(places, "line model"))
    for (cx, cy), point in zip(places, known, strict=True):
        est = look(point, "r_star")
        if est["low"] is not None and est["high"] is not None:
            body.append(svg.line(cx, y(est["low"]), cx, y(est["high"]), "whisker"))
        said = f"{share_name(point)} of the hazard: R* {value(est)} {interval(est)}".strip()
        title = svg.el("title", svg.escape(said))
        body.append(svg.el("circle", title, cx=cx, cy=cy, r=4.0, class_="dot model"))
    if not known:
        middle = (left + right) / 2
        body.append(svg.text(middle, y(0.5), "no point has a number", "note", "middle"))
    name = str(model.get("name", ""))
    said = "; ".join(f"{share_name(p)}: {value(look(p, 'r_star'))}" for p in points)
    return svg.document(
        *_SIZE,
        f"In-domain generalisation of {name}",
        f"R* against the share of the hazard that the defender had. {said}.",
        *body,
    )


def _frame(points: Sequence[Verdict], x: svg.Linear, y: svg.Linear) -> Sequence[str]:
    left, _, right, bottom = _FIELD
    parts: list[str] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.line(left, y(tick), right, y(tick), "grid"))
        parts.append(svg.text(left - 7, y(tick) + 4, number(tick), "tick", "end"))
    for level, word in ((0.0, "undefended"), (1.0, "never learned")):
        parts.append(svg.text(right + 6, y(level) + 4, word, "label chance"))
    parts.append(svg.line(left, bottom, right, bottom, "axis"))
    last = -math.inf
    for point in points:
        at = x(math.log(point["share"]))
        parts.append(svg.line(at, bottom, at, bottom + 4, "axis"))
        if at - last >= 34:
            parts.append(svg.text(at, bottom + 17, share_name(point), "tick", "middle"))
            last = at
    middle = (left + right) / 2
    title = "share of the hazard the defender had (logarithmic)"
    parts.append(svg.text(middle, bottom + 38, title, "title", "middle"))
    parts.append(svg.text(6, 12, "R*", "title"))
    return parts
