"""The in-domain curve: R* against the share of the hazard that the defender had."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from titer.pillars.generalisation import SharePoint
from titer.report import _svg as svg
from titer.report.models import in_order, share_name
from titer.report.numbers import number, shown, tidy, value
from titer.report.section import Screen, Section, Svg
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "data", "figures", "shares", "terminal"]

SECTION = Section(title="With less of the hazard to defend with", after="pareto", nav="Less data")

_SIZE = (460.0, 300.0)
_FIELD = (48.0, 38.0, 360.0, 240.0)  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Rows:
    """The models that have a curve."""

    models: tuple[ModelVerdict, ...]


def data(verdict: Verdict) -> Rows | None:
    """The models whose defence was made again with less."""
    models = tuple(model for model in in_order(verdict) if model.generalisation.curve)
    return Rows(models) if models else None


def figures(rows: Rows) -> dict[str, Svg]:
    """A curve a model."""
    return {f"shares-{model.name}": shares(model) for model in rows.models}


def terminal(rows: Rows, screen: Screen) -> Iterator[RenderableType]:
    """A line a model."""
    for model in rows.models:
        told = (
            f"{shown(point.r_star)} with {share_name(point)} of the hazard "
            f"({point.entities} of {point.total})"
            for point in model.generalisation.curve
        )
        yield Text(f"In-domain R*: {tidy(model.name)}: {'; '.join(told)}.")


def shares(model: ModelVerdict) -> Svg:
    """R* by share for one model, with intervals, or nothing where it was not measured.

    The axis of shares is logarithmic. The rules at 0 and 1 are the undefended model and the one
    that never learned. Points without a number are left out.
    """
    points = model.generalisation.curve
    if not points:
        return ""
    left, top, right, bottom = _FIELD
    known = [(point, at) for point in points if (at := point.r_star.value) is not None]
    ends = [0.0, 1.0, *(at for _, at in known)]
    ends += [end for point, _ in known for end in point.r_star.interval if end is not None]
    y = svg.Linear(min(ends) - 0.05, max(ends) + 0.05, bottom, top)
    x = svg.Linear(math.log(points[0].share), 0.0, left + 14, right - 6)
    body = [*_frame(points, x, y), svg.text(0, 13, svg.clip(model.name, 440, 12.0), "head")]
    places = [(x(math.log(point.share)), y(at)) for point, at in known]
    body.append(svg.polyline(places, "line model"))
    for (cx, cy), (point, _) in zip(places, known, strict=True):
        low, high = point.r_star.interval
        if low is not None and high is not None:
            body.append(svg.line(cx, y(low), cx, y(high), "whisker"))
        said = f"{share_name(point)} of the hazard: R* {shown(point.r_star)}"
        title = svg.el("title", svg.escape(said))
        body.append(svg.el("circle", title, cx=cx, cy=cy, r=4.0, class_="dot model"))
    if not known:
        middle = (left + right) / 2
        body.append(svg.text(middle, y(0.5), "no point has a number", "note", "middle"))
    said = "; ".join(f"{share_name(p)}: {value(p.r_star)}" for p in points)
    return svg.document(
        *_SIZE,
        f"In-domain generalisation of {model.name}",
        f"R* against the share of the hazard that the defender had. {said}.",
        *body,
    )


def _frame(points: Sequence[SharePoint], x: svg.Linear, y: svg.Linear) -> Sequence[str]:
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
        at = x(math.log(point.share))
        parts.append(svg.line(at, bottom, at, bottom + 4, "axis"))
        if at - last >= 34:
            parts.append(svg.text(at, bottom + 17, share_name(point), "tick", "middle"))
            last = at
    middle = (left + right) / 2
    title = "share of the hazard the defender had (logarithmic)"
    parts.append(svg.text(middle, bottom + 38, title, "title", "middle"))
    parts.append(svg.text(6, 30, "R*", "title"))
    return parts
