"""The figures of the report: parts of a verdict in, an SVG document as text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from titer.report import _svg as svg
from titer.report._heatmap import heatmap
from titer.report._shares import shares
from titer.report.tables import interval, look, number, value

__all__ = ["heatmap", "pareto", "recovery", "shares"]

Verdict = Mapping[str, Any]
_SMALL = 12.0


# --- recovery curves ---------------------------------------------------------------------------

_PANEL = (490.0, 320.0)
_PLOT = (38.0, 14.0, 344.0, 268.0)  # left, top, right, bottom


def recovery(
    model: Verdict,
    undefended: Verdict | None = None,
    oracle: Verdict | None = None,
    *,
    chance: float | None = None,
    last: int | None = None,
) -> str:
    """Harm against attack steps for one model, the two references beside it.

    Thick: the worst attack so far that keeps utility, with its interval. Thin: every attack
    (dashed where it ended with the utility gone). ``last`` ends the axis, so that all panels of a
    report share one scale.
    """
    left, top, right, bottom = _PLOT
    y = svg.Linear(0.0, 1.0, bottom, top)
    x = _step_axis([model, undefended, oracle], last, left, right)
    name = str(model.get("name", ""))
    phi = look(model, "pillars", "resistance").get("phi")
    body = [_frame(x, y)]
    labels: list[tuple[float, str, str]] = []
    for level, kind, word in ((chance, "chance", "chance"), (phi, "phi", "threshold φ")):
        if isinstance(level, int | float):
            body.append(svg.line(left, y(level), right, y(level), f"rule {kind}"))
            labels.append((y(level), f"{number(level)} {word}", f"label {kind}"))
    body += [_attack_line(curve, model, x, y) for curve in _items(model, "curves")]
    lines = (
        (undefended, "undefended", "undefended"),
        (oracle, "oracle", "never learned"),
        (model, "model", "worst attack"),
    )
    for subject, kind, word in lines:
        if subject is None or (kind != "model" and subject is model):
            continue
        if look(subject, "pillars", "resistance", "weak").get("value") is None:
            continue  # a maximum with a mandatory attack missing is no worst case
        drawn, end = _envelope(subject, kind, x, y)
        body.append(drawn)
        if end is not None:
            labels.append((y(end), f"{number(end)} {word}", f"label {kind}"))
    if all(kind != "label model" for _, _, kind in labels):
        body.append(svg.text((left + right) / 2, y(0.86), "worst harm withheld", "note", "middle"))
    body += _side_labels(labels, right, svg.Band(top + 6, bottom, 15.0))
    worst = look(model, "pillars", "resistance", "weak")
    said = f"Worst feasible harm {value(worst)} {interval(worst)}".strip()
    return svg.document(
        *_PANEL,
        f"Recovery curve of {name}",
        f"Held-out harm against attack steps on a logarithmic axis. {said}; threshold "
        f"{number(phi if isinstance(phi, int | float) else None)}.",
        *body,
    )


def _items(content: Verdict | None, key: str) -> Sequence[Verdict]:
    return cast(Sequence[Verdict], (content or {}).get(key) or ())


def _envelope_points(model: Verdict | None) -> Sequence[Verdict]:
    return _items(look(model, "pillars", "resistance"), "curve")


def _step_axis(
    models: Sequence[Verdict | None], last: int | None, left: float, right: float
) -> svg.StepAxis:
    steps = [float(p["steps"]) for model in models for p in _envelope_points(model)]
    steps += [float(s) for m in models for c in _items(m, "curves") for s in c.get("steps", ())]
    positive = [step for step in steps if step > 0] or [1.0]
    return svg.StepAxis(min(positive), max(float(last or 0), *positive, 1.0), left + 8, right)


def _frame(x: svg.StepAxis, y: svg.Linear) -> str:
    left, _, right, bottom = _PLOT
    parts: list[str] = []
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.line(left, y(level), right, y(level), "grid" if level else "axis"))
        parts.append(svg.text(left - 6, y(level) + 4, f"{level:g}", "tick", "end"))
    for step in x.ticks():
        parts.append(svg.line(x(step), bottom, x(step), bottom + 4, "axis"))
        parts.append(svg.text(x(step), bottom + 17, _short_steps(step), "tick", "middle"))
    # Two strokes across the axis: between zero and the first step the scale is broken.
    cut = x.start + x.gap / 2
    parts.append(svg.el("rect", x=cut - 3, y=bottom - 3, width=6.0, height=6.0, class_="paper"))
    parts += [svg.line(cut + d - 2, bottom + 4, cut + d + 2, bottom - 4, "axis") for d in (-3, 3)]
    middle = (left + right) / 2
    parts.append(svg.text(middle, bottom + 37, "attack steps (logarithmic)", "title", "middle"))
    return svg.el("g", *parts)


def _short_steps(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 1000 else number(step, "steps")


def _attack_line(curve: Verdict, model: Verdict, x: svg.StepAxis, y: svg.Linear) -> str:
    row = str(curve.get("row", ""))
    attack = next((a for a in _items(model, "attacks") if a.get("row") == row), {})
    lost = attack.get("outcome") in ("bricked", "degraded breach")
    points: list[tuple[float, float] | None] = []
    for steps, harm in zip(curve.get("steps", ()), _items(curve, "harm"), strict=False):
        level = harm.get("value")
        points.append(None if level is None else (x(steps), y(level)))
    said = f"{row} {attack.get('title', '')}".strip()
    return svg.polyline(points, "attack lost" if lost else "attack", said)


def _envelope(
    model: Verdict, kind: str, x: svg.StepAxis, y: svg.Linear
) -> tuple[str, float | None]:
    """The worst case over budget with its interval, and where it ends."""
    shown = [p for p in _envelope_points(model) if look(p, "harm").get("value") is not None]
    if not shown:
        return "", None
    places = [(x(p["steps"]), y(p["harm"]["value"])) for p in shown]
    parts: list[str] = []
    banded = [p for p in shown if None not in (p["harm"].get("low"), p["harm"].get("high"))]
    if len(banded) > 1:
        upper = [(x(p["steps"]), y(min(p["harm"]["high"], 1.0))) for p in banded]
        lower = [(x(p["steps"]), y(max(p["harm"]["low"], 0.0))) for p in reversed(banded)]
        outline = " ".join(f"{svg.coordinate(a)},{svg.coordinate(b)}" for a, b in (*upper, *lower))
        parts.append(svg.el("polygon", points=outline, class_=f"band {kind}"))
    if kind == "model":
        free = [(p, look(p, "harm_unconstrained").get("value")) for p in shown]
        if any(level is not None and level > p["harm"]["value"] + 1e-9 for p, level in free):
            dashed = [None if level is None else (x(p["steps"]), y(level)) for p, level in free]
            parts.append(svg.polyline(dashed, "line model free", "worst attack, utility ignored"))
    parts.append(svg.polyline(places, f"line {kind}"))
    for (cx, cy), point in zip(places, shown, strict=True):
        if kind == "model":
            said = f"{number(point['steps'], 'steps')} steps: {_said(point['harm'])}"
            said += f", {point['attack']}" if point.get("attack") else ""
            dot = svg.el("title", svg.escape(said))
            parts.append(svg.el("circle", dot, cx=cx, cy=cy, r=3.2, class_="dot model"))
    return svg.el("g", *parts), cast(float, shown[-1]["harm"]["value"])


def _said(est: Verdict) -> str:
    return f"{value(est)} {interval(est)}".strip()


def _side_labels(
    labels: Sequence[tuple[float, str, str]], right: float, band: svg.Band
) -> Iterator[str]:
    """Names at the ends of the lines, moved apart where they would overlap."""
    places = svg.spread([wanted for wanted, _, _ in labels], band)
    for (wanted, words, class_), place in zip(labels, places, strict=True):
        if abs(place - wanted) > 1:
            yield svg.line(right + 2, wanted, right + 9, place, "leader")
        yield svg.text(right + 11, place + 4, words, class_)


# --- resistance against utility ------------------------------------------------------------------

Axis = Literal["weak", "r_star"]
_SQUARE = (460.0, 360.0)
_FIELD = (48.0, 34.0, 446.0, 306.0)


def pareto(models: Sequence[Verdict], axis: Axis = "weak", *, margin: float | None = None) -> str:
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
    phis = {look(model, "pillars", "resistance").get("phi") for model, _, _ in placed}
    if axis == "weak" and len(phis) == 1 and (phi := phis.pop()) is not None:
        body.append(svg.line(left, y(phi), right, y(phi), "rule phi"))
        body.append(svg.text(left + 5, y(phi) - 5, f"φ {number(phi)}", "tick"))
    body += [_staircase(placed, x, y, better_up=better_up)]
    for model, dx, dy in placed:
        body.append(_whiskers(dx, dy, x, y))
        place = (x(100 * cast(float, dx["value"])), y(cast(float, dy["value"])))
        body.append(_marker(str(model.get("role", "")), *place, _pareto_title(model, dx, dy)))
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


def _pair(model: Verdict, axis: Axis) -> tuple[Verdict, Verdict] | None:
    """Utility change and resistance; an undefended model has changed nothing by definition."""
    dx = look(model, "pillars", "stability", "worst_delta")
    dy = look(model, "pillars", "resistance", axis)
    if dx.get("value") is None and model.get("role") == "undefended":
        dx = {"value": 0.0}
    return None if dx.get("value") is None or dy.get("value") is None else (dx, dy)


def _ends(est: Verdict, scale: float = 1.0) -> tuple[float, float]:
    middle = cast(float, est["value"])
    low, high = est.get("low"), est.get("high")
    return (
        scale * (middle if low is None else min(low, middle)),
        scale * (middle if high is None else max(high, middle)),
    )


def _pareto_scales(
    placed: Sequence[tuple[Verdict, Verdict, Verdict]], axis: Axis, margin: float | None
) -> tuple[svg.Linear, svg.Linear]:
    left, top, right, bottom = _FIELD
    spans = [_ends(dx, 100.0) for _, dx, _ in placed] or [(-1.0, 1.0)]
    edge = 100 * margin if margin else 1.0
    low = min(-edge, *(span[0] for span in spans))
    high = max(min(edge, 1.0), *(span[1] for span in spans))
    pad = 0.06 * (high - low)
    heights = [_ends(dy) for _, _, dy in placed] or [(0.0, 1.0)]
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
    placed: Sequence[tuple[Verdict, Verdict, Verdict]],
    x: svg.Linear,
    y: svg.Linear,
    *,
    better_up: bool,
) -> str:
    sign = 1.0 if better_up else -1.0
    points = [
        (cast(float, dx["value"]), cast(float, dy["value"]))
        for model, dx, dy in placed
        if model.get("role") == "defended"
    ]
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


def _whiskers(dx: Verdict, dy: Verdict, x: svg.Linear, y: svg.Linear) -> str:
    cx, cy = x(100 * cast(float, dx["value"])), y(cast(float, dy["value"]))
    (left, right), (low, high) = _ends(dx, 100.0), _ends(dy)
    return svg.line(x(left), cy, x(right), cy, "whisker") + svg.line(
        cx, max(y(high), _FIELD[1]), cx, min(y(low), _FIELD[3]), "whisker"
    )


def _pareto_title(model: Verdict, dx: Verdict, dy: Verdict) -> str:
    utility = f"{value(dx, 'points')} {interval(dx, 'points')}".strip()
    return f"{model.get('name', '')}: {_said(dy)}; utility {utility} points"


def _marker(role: str, cx: float, cy: float, title: str) -> str:
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


def _point_labels(
    placed: Sequence[tuple[Verdict, Verdict, Verdict]], x: svg.Linear, y: svg.Linear
) -> Iterator[str]:
    """Names beside the points: of eight places the one that covers least."""
    left, top, right, bottom = _FIELD
    spots = [(x(100 * cast(float, a["value"])), y(cast(float, b["value"]))) for _, a, b in placed]
    taken = [(px - 8, py - 8, px + 8, py + 8) for px, py in spots]
    for (px, py), (_, dx, dy) in zip(spots, placed, strict=True):  # names keep off the whiskers
        (west, east), (low, high) = _ends(dx, 100.0), _ends(dy)
        taken.append((x(west), py - 2, x(east), py + 2))
        taken.append((px - 2, y(high), px + 2, y(low)))
    for at, (model, _, _) in enumerate(placed):
        name = svg.clip(str(model.get("name", "")), 170, _SMALL)
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
        yield svg.text(*best, name, f"label name {model.get('role', '')}")


_AROUND = ((10, -8), (-10, -8), (10, 17), (-10, 17), (0, -14), (0, 23), (12, 4), (-12, 4))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0
