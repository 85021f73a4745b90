"""Drawing without a plotting library: elements, scales, ticks, and labels that do not collide.

Every text and attribute is escaped here, once. Colours are classes that the page's style sheet
sets, so that light, dark and print share one drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "Band",
    "Linear",
    "StepAxis",
    "clip",
    "coordinate",
    "document",
    "el",
    "escape",
    "line",
    "nice_ticks",
    "polyline",
    "spread",
    "text",
    "width_of",
    "wrap",
]


def escape(raw: object) -> str:
    """Text for XML: specials become entities; characters that XML cannot hold become spaces."""
    kept = "".join(char if _in_xml(char) else " " for char in str(raw))
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;")):
        kept = kept.replace(char, entity)
    return kept.replace("'", "&#39;")


def _in_xml(char: str) -> bool:
    code = ord(char)
    plain = code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE
    return plain or 0x10000 <= code <= 0x10FFFF


def coordinate(raw: float) -> str:
    """One decimal is a tenth of a pixel; the same number always gives the same bytes."""
    shown = f"{raw:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown


def el(tag: str, *children: str, **attributes: object) -> str:
    """An element. ``children`` are markup already; attribute values are escaped.

    Write ``class_`` for ``class`` and underscores for hyphens. ``None`` leaves an attribute out.
    """
    written: list[str] = []
    for name, raw in attributes.items():
        if raw is None:
            continue
        shown = coordinate(raw) if isinstance(raw, float) else escape(raw)
        written.append(f' {name.rstrip("_").replace("_", "-")}="{shown}"')
    inner = "".join(children)
    return f"<{tag}{''.join(written)}>{inner}</{tag}>" if inner else f"<{tag}{''.join(written)}/>"


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start") -> str:
    """A line of text whose baseline starts, centres or ends at ``(x, y)``."""
    where = None if anchor == "start" else anchor
    return el("text", escape(content), x=x, y=y, class_=class_ or None, text_anchor=where)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float] | None], class_: str, title: str = "") -> str:
    """A path through the points; ``None`` breaks it. One point alone becomes a short dash."""
    parts: list[str] = []
    pen_up = True
    for at, point in enumerate(points):
        if point is None:
            pen_up = True
            continue
        parts.append(f"{'M' if pen_up else 'L'}{coordinate(point[0])},{coordinate(point[1])}")
        alone = pen_up and (at + 1 == len(points) or points[at + 1] is None)
        if alone:
            parts.append("h3")
        pen_up = False
    if not parts:
        return ""
    label = el("title", escape(title)) if title else ""
    return el("path", label, d="".join(parts), class_=class_)


def document(width: float, height: float, title: str, description: str, *body: str) -> str:
    """A whole drawing that scales with its box and says in words what it shows."""
    return el(
        "svg",
        el("title", escape(title)),
        el("desc", escape(description)),
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        width=float(width),
        height=float(height),
        role="img",
        aria_label=title,
        class_="figure",
    )


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear scale from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, raw: float) -> float:
        share = (raw - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class StepAxis:
    """A logarithmic axis of steps with a true zero to the left of its break.

    A logarithm has no zero, and the point before the attack is the one that every curve starts
    from; it gets its own place, ``gap`` pixels left of the first positive step.
    """

    first: float
    last: float
    start: float
    end: float
    gap: float = 26.0

    def __call__(self, steps: float) -> float:
        if steps <= 0:
            return self.start
        span = math.log(self.last / self.first) if self.last > self.first else 1.0
        share = math.log(max(steps, self.first) / self.first) / span
        left = self.start + self.gap
        return left + min(max(share, 0.0), 1.0) * (self.end - left)

    def ticks(self, room: float = 34.0) -> list[float]:
        """Zero, then powers of ten, with 3s between them where there is room."""
        low, high = math.floor(math.log10(self.first)), math.ceil(math.log10(self.last))
        tens = [10.0**power for power in range(low, high + 1)]
        finer = sorted(tens + [3 * ten for ten in tens])
        for candidates in (finer, tens):
            kept = [tick for tick in candidates if self.first <= tick <= self.last]
            if kept and all(self(b) - self(a) >= room for a, b in pairwise(kept)):
                return [0.0, *kept]
        return [0.0, self.first, self.last] if self.last > self.first else [0.0, self.first]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``."""
    raw = (high - low) / max(about - 1, 1) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * count, 10) for count in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Band:
    """The stretch that labels may use, and the distance they keep."""

    low: float
    high: float
    gap: float


def spread(wanted: Sequence[float], band: Band) -> list[float]:
    """Positions as near to the wanted ones as the gap allows, in the order given."""
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    placed = [wanted[at] for at in order]
    for at in range(1, len(placed)):
        placed[at] = max(placed[at], placed[at - 1] + band.gap)
    overflow = max(0.0, placed[-1] - band.high) if placed else 0.0
    if overflow:
        placed[-1] -= overflow
        for at in range(len(placed) - 2, -1, -1):
            placed[at] = min(placed[at], placed[at + 1] - band.gap)
    result = [0.0] * len(placed)
    for at, where in zip(order, placed, strict=True):
        result[at] = where
    return result


def width_of(content: str, size: float) -> float:
    """Roughly how wide a text is; system fonts differ, so this errs on the wide side."""
    return sum(0.35 if char in "iljtf.,:;|'![]() " else 0.63 for char in content) * size


def clip(content: str, width: float, size: float) -> str:
    """The text, shortened with an ellipsis until it fits."""
    if width_of(content, size) <= width:
        return content
    kept = content
    while kept and width_of(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def wrap(content: str, width: float, size: float, lines: int) -> list[str]:
    """Up to ``lines`` lines, broken after a separator where there is one."""
    rest, found = content.strip(), list[str]()
    while rest and len(found) < lines - 1 and width_of(rest, size) > width:
        fits = max(
            (n for n in range(1, len(rest) + 1) if width_of(rest[:n], size) <= width), default=1
        )
        breaks = [n for n in range(1, fits + 1) if rest[n - 1] in " -+/_:."]
        cut = breaks[-1] if breaks and breaks[-1] > 2 else fits
        found.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [*found, clip(rest, width, size)] if rest else found
