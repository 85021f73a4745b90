"""A drawing of the report as a PDF page, with its fonts inside.

matplotlib paints it; what is drawn, and how, stands in the drawing. The same drawing gives the same
bytes under the same version of matplotlib.
"""

# matplotlib is an extra, and what is not installed has no types.
# pyright: reportMissingImports=false
from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from titer.report._paper import Drawn

__all__ = ["available", "to_pdf"]

_POINTS = 72 / 25.4  # a millimetre
_FONTS = ["DejaVu Sans"]
"""matplotlib brings it, so that every machine draws the same."""
_NARROW = 0.92
"""DejaVu is wider than the fonts that labels are laid out for."""


def available() -> bool:
    """Whether the package that paints is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def to_pdf(figure: Drawn, width: float) -> bytes:
    """The drawing as one PDF page, ``width`` millimetres wide.

    Raises:
        ImportError: matplotlib is not installed (``titer[plots]``).
    """
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    _, _, across, down = map(float, figure.attributes["viewBox"].split())
    scale = width * _POINTS / across
    settings: Any = {
        "pdf.fonttype": 42,
        "font.family": _FONTS,
        "lines.scale_dashes": False,
        "path.simplify": False,
    }
    with matplotlib.rc_context(settings):
        page = Figure(figsize=(across * scale / 72, down * scale / 72))
        page.patch.set_visible(False)
        axes = page.add_axes((0, 0, 1, 1), frameon=False)
        axes.set(xlim=(0, across), ylim=(down, 0), xticks=[], yticks=[])
        _paint(figure, axes, scale, 1.0)
        out = io.BytesIO()
        title = next((one.text for one in figure.inside if one.tag == "title"), "")
        facts = {"Title": title, "Creator": "titer", "Producer": None, "CreationDate": None}
        FigureCanvasPdf(page).print_pdf(out, metadata=facts)
    return out.getvalue()


def _paint(drawn: Drawn, axes: Any, scale: float, opacity: float) -> None:
    opacity *= float(drawn.attributes.get("opacity", 1))
    if drawn.tag == "text":
        _text(drawn, axes, scale, opacity)
    elif drawn.tag in _SHAPES:
        _shape(drawn, axes, scale, opacity)
    for one in drawn.inside:
        _paint(one, axes, scale, opacity)


def _shape(drawn: Drawn, axes: Any, scale: float, opacity: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    given = drawn.attributes
    points, codes = _SHAPES[drawn.tag](given)
    if not points:
        return
    fill, stroke = given.get("fill", "black"), given.get("stroke", "none")
    dashes = [float(number) * scale for number in re.findall(r"[\d.]+", _dashes(given))]
    axes.add_patch(
        PathPatch(
            Path(points, codes),
            facecolor="none" if drawn.tag == "line" else fill,
            edgecolor=stroke,
            linewidth=0 if stroke == "none" else float(given.get("stroke-width", 1)) * scale,
            linestyle=(0, tuple(dashes)) if dashes else "solid",
            capstyle={"round": "round", "square": "projecting"}.get(
                given.get("stroke-linecap", ""), "butt"
            ),
            joinstyle=given.get("stroke-linejoin", "miter"),
            alpha=opacity,
            clip_on=False,
        )
    )


def _dashes(given: Mapping[str, str]) -> str:
    return given.get("stroke-dasharray", "none").replace("none", "")


def _text(drawn: Drawn, axes: Any, scale: float, opacity: float) -> None:
    from matplotlib.patheffects import withStroke

    given = drawn.attributes
    made = axes.text(
        float(given["x"]),
        float(given["y"]),
        drawn.text,
        fontsize=float(given.get("font-size", 12)) * scale * _NARROW,
        fontweight="bold" if _heavy(given.get("font-weight", "400")) else "normal",
        fontstyle=given.get("font-style", "normal"),
        color=given.get("fill", "black"),
        ha={"middle": "center", "end": "right"}.get(given.get("text-anchor", ""), "left"),
        va="baseline",
        alpha=opacity,
        parse_math=False,
    )
    if given.get("paint-order") == "stroke" and given.get("stroke", "none") != "none":
        wide = float(given.get("stroke-width", 1)) * scale
        made.set_path_effects([withStroke(linewidth=wide, foreground=given["stroke"])])


def _heavy(weight: str) -> bool:
    return weight == "bold" or (weight.isdigit() and int(weight) >= 600)


# -- shapes as paths: points and matplotlib's codes ------------------------------------------------

_MOVE, _LINE, _CLOSE = 1, 2, 79
Outline = tuple[list[tuple[float, float]], list[int]]


def _numbers(given: Mapping[str, str], *names: str) -> list[float]:
    return [float(given.get(name, 0)) for name in names]


def _polygon(corners: list[tuple[float, float]], *, closed: bool) -> Outline:
    if not corners:
        return [], []
    points = [*corners, corners[0]] if closed else corners
    codes = [_MOVE, *[_LINE] * (len(corners) - 1), *([_CLOSE] if closed else [])]
    return points, codes


def _line(given: Mapping[str, str]) -> Outline:
    x1, y1, x2, y2 = _numbers(given, "x1", "y1", "x2", "y2")
    return _polygon([(x1, y1), (x2, y2)], closed=False)


def _rect(given: Mapping[str, str]) -> Outline:
    x, y, wide, high, r = _numbers(given, "x", "y", "width", "height", "rx")
    r = min(r, wide / 2, high / 2)
    right, below = x + wide - r, y + high - r
    corners: list[tuple[float, float]] = []
    for at, middle in enumerate([(right, y + r), (right, below), (x + r, below), (x + r, y + r)]):
        start = (at - 1) * math.pi / 2
        corners += _arc(*middle, r, start, start + math.pi / 2, 6)
    return _polygon(corners, closed=True)


def _circle(given: Mapping[str, str]) -> Outline:
    cx, cy, r = _numbers(given, "cx", "cy", "r")
    return _polygon(_arc(cx, cy, r, 0.0, 2 * math.pi, 48)[:-1], closed=True)


def _points(given: Mapping[str, str]) -> Outline:
    pairs = [pair.split(",") for pair in given["points"].split()]
    return _polygon([(float(x), float(y)) for x, y in pairs], closed=True)


def _arc(
    cx: float, cy: float, r: float, start: float, end: float, pieces: int
) -> list[tuple[float, float]]:
    """Points on a circle from one angle to another, both ends included where it has a radius."""
    steps = range(pieces + 1) if r else range(1)
    angles = [start + (end - start) * step / pieces for step in steps]
    return [(cx + r * math.cos(angle), cy + r * math.sin(angle)) for angle in angles]


def _path(given: Mapping[str, str]) -> Outline:
    """The commands that the report's drawings use: ``M m L l h v a z``.

    Raises:
        ValueError: another command, so that a new drawing is not left out in silence.
    """
    points: list[tuple[float, float]] = []
    codes: list[int] = []
    x = y = 0.0
    start = (0.0, 0.0)
    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", given["d"]):
        numbers = [float(number) for number in re.findall(r"-?\d*\.?\d+", rest)]
        if command in "zZ":
            x, y = start
            points.append(start)
            codes.append(_CLOSE)
        elif command in "hv":
            x, y = (x + numbers[0], y) if command == "h" else (x, y + numbers[0])
            points.append((x, y))
            codes.append(_LINE)
        elif command == "a":
            r, dx, dy, sweep = numbers[0], numbers[5], numbers[6], bool(numbers[4])
            bent = _half(x, y, dx, dy, r, sweep=sweep)
            points += bent
            codes += [_LINE] * len(bent)
            x, y = x + dx, y + dy
        elif command in "MmLl":
            for at in range(0, len(numbers), 2):
                here = (0.0, 0.0) if command.isupper() else (x, y)
                x, y = here[0] + numbers[at], here[1] + numbers[at + 1]
                moved = command in "Mm" and not at
                start = (x, y) if moved else start
                points.append((x, y))
                codes.append(_MOVE if moved else _LINE)
        else:
            raise ValueError(f"a path with the command {command!r} cannot be put on paper.")
    return points, codes


def _half(
    x: float, y: float, dx: float, dy: float, r: float, *, sweep: bool
) -> list[tuple[float, float]]:
    """The smaller arc of radius ``r`` to a point ``(dx, dy)`` away."""
    chord = math.hypot(dx, dy)
    off = math.sqrt(max(0.0, r * r - chord * chord / 4)) * (1 if sweep else -1)
    cx, cy = x + dx / 2 - off * dy / chord, y + dy / 2 + off * dx / chord
    start, end = math.atan2(y - cy, x - cx), math.atan2(y + dy - cy, x + dx - cx)
    turn = (end - start) % (2 * math.pi) if sweep else -((start - end) % (2 * math.pi))
    return _arc(cx, cy, r, start, start + turn, 16)[1:]


_SHAPES: dict[str, Callable[[Mapping[str, str]], Outline]] = {
    "line": _line,
    "rect": _rect,
    "circle": _circle,
    "polygon": _points,
    "path": _path,
}
