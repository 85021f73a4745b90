"""The report's drawings for paper: the page's light style worked into each element.

Programs that lay out papers read presentation attributes; few read style sheets, and fewer
variables. So what the sheet says of an element is looked up here and written onto it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from xml.etree import ElementTree

__all__ = ["Drawn", "on_paper", "to_svg"]

_SVG = "http://www.w3.org/2000/svg"
_FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_SHOWN = (
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "stroke-linecap",
    "stroke-linejoin",
    "opacity",
    "font-size",
    "font-weight",
    "font-style",
    "paint-order",
)
_OWN = ("opacity", "paint-order")
"""What an element does not hand on to those inside it."""

Style = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Compound:
    """``line.rule.chance``: a tag, where there is one, and classes."""

    tag: str
    classes: frozenset[str]

    def fits(self, tag: str, classes: frozenset[str]) -> bool:
        return self.tag in ("", tag) and self.classes <= classes


@dataclass(frozen=True, slots=True)
class _Rule:
    """Compounds from the outermost in, what they set, and how they rank."""

    path: tuple[_Compound, ...]
    sets: Style
    rank: tuple[int, int, int]

    def fits(self, chain: Sequence[tuple[str, frozenset[str]]]) -> bool:
        *outer, last = self.path
        if not last.fits(*chain[-1]):
            return False
        above = iter(chain[:-1])
        return all(any(compound.fits(*one) for one in above) for compound in outer)


@dataclass(frozen=True, slots=True)
class Drawn:
    """An element with its style worked out: ``attributes`` are geometry and style alike."""

    tag: str
    attributes: Mapping[str, str]
    text: str
    inside: tuple[Drawn, ...]

    def each(self) -> Iterator[Drawn]:
        """This element and all inside it, in the order they are painted."""
        yield self
        for one in self.inside:
            yield from one.each()


def on_paper(figure: str) -> Drawn:
    """A drawing of the report with the page's light style on every element."""
    root = ElementTree.fromstring(figure)  # our own drawing, in which every text is escaped
    return _draw(root, (), _variables())


def to_svg(figure: Drawn, width: float) -> str:
    """The drawing as an SVG file that is ``width`` millimetres wide."""
    _, _, across, down = map(float, figure.attributes["viewBox"].split())
    root = _element(figure)
    root.set("xmlns", _SVG)
    root.set("width", f"{width:g}mm")
    root.set("height", f"{round(width * down / across, 3):g}mm")
    root.set("font-family", _FONTS)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _element(drawn: Drawn) -> ElementTree.Element:
    made = ElementTree.Element(drawn.tag, dict(drawn.attributes))
    made.text = drawn.text or None
    made.extend(_element(one) for one in drawn.inside)
    return made


def _draw(
    node: ElementTree.Element, above: tuple[tuple[str, frozenset[str]], ...], handed: Style
) -> Drawn:
    tag = node.tag.rsplit("}", 1)[-1]
    chain = (*above, (tag, frozenset(node.get("class", "").split())))
    style = {name: value for name, value in handed.items() if name not in _OWN}
    for rule in _rules():
        if rule.fits(chain):
            style |= rule.sets
    geometry = {
        name: value for name, value in node.attrib.items() if name not in ("class", "style")
    }
    shown = {}
    if tag not in ("title", "desc", "svg", "g"):
        shown = {name: found for name in _SHOWN if (found := _value(style, name))}
    elif "opacity" in style and tag == "g":
        shown = {"opacity": _value(style, "opacity")}
    return Drawn(
        tag=tag,
        attributes={**geometry, **shown},
        text=node.text or "",
        inside=tuple(_draw(child, chain, style) for child in node),
    )


def _value(style: Style, name: str) -> str:
    """What a property comes to once its variables are filled in."""
    raw = style.get(name, "")
    for _ in range(4):  # a variable may name another
        raw = re.sub(
            r"var\((--[\w-]+)(?:,\s*([^()]*))?\)",
            lambda found: style.get(found[1], found[2] or "none"),
            raw,
        )
    return raw.removesuffix("px")


@cache
def _sheet() -> list[tuple[str, dict[str, str]]]:
    """Selectors and what they set, for the light page on a screen."""
    text = (files("titer.report") / "templates" / "report.css").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/|\{% set .*?\{% endset %\}", "", text, flags=re.S)
    text = re.sub(r"^@media screen.*$", "", text, flags=re.M).split("@media", 1)[0]
    found: list[tuple[str, dict[str, str]]] = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", text):
        sets: dict[str, str] = {}
        for line in body.split(";"):
            name, sign, value = line.partition(":")
            if sign:
                sets[name.strip()] = " ".join(value.split())
        found += [(selector.strip(), sets) for selector in selectors.split(",")]
    return found


@cache
def _variables() -> dict[str, str]:
    return {
        name: value
        for selector, sets in _sheet()
        if selector == ":root"
        for name, value in sets.items()
        if name.startswith("--")
    }


@cache
def _rules() -> tuple[_Rule, ...]:
    """The rules that a drawing can match, weakest first."""
    found: list[_Rule] = []
    for at, (selector, sets) in enumerate(_sheet()):
        words = selector.split()
        if not all(re.fullmatch(r"[a-z]*(\.[\w-]+)*", word) for word in words):
            continue
        path = tuple(
            _Compound(word.split(".")[0], frozenset(word.split(".")[1:])) for word in words
        )
        kept = {n: v for n, v in sets.items() if n in _SHOWN or n.startswith("--")}
        classes = sum(len(compound.classes) for compound in path)
        tags = sum(bool(compound.tag) for compound in path)
        if kept and path:
            found.append(_Rule(path, kept, (classes, tags, at)))
    return tuple(sorted(found, key=lambda rule: rule.rank))
