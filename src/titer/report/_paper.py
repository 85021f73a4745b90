"""The report's drawings for paper: SVG without a style sheet, and PDF with its fonts inside.

Programs that lay out papers read presentation attributes; few read style sheets, and fewer
variables. So what the page's light style says of an element is written onto it.
"""

# CairoSVG is an extra, and what is not installed has no types.
# pyright: reportMissingImports=false
from __future__ import annotations

import io
import re
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import cssselect2
import tinycss2
from jinja2 import Template

__all__ = ["available", "to_pdf", "to_svg"]

_SVG = "http://www.w3.org/2000/svg"
_FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_STROKE = ("stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin")
_SHOWN = ("fill", *_STROKE, "opacity", "font-size", "font-weight", "font-style", "paint-order")
_OWN = ("opacity", "paint-order")
"""What an element does not hand on to those inside it."""

Style = Mapping[str, str]


def to_svg(figure: str, width: float) -> str:
    """A drawing of the report as an SVG file of its own, ``width`` millimetres wide."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(figure)  # our own drawing, in which every text is escaped
    styles: dict[ElementTree.Element, Style] = {}
    for one in cssselect2.ElementWrapper.from_xml_root(root).iter_subtree():
        handed = styles[one.parent.etree_element] if one.parent else {}
        style = {name: value for name, value in handed.items() if name not in _OWN}
        for *_, sets in _light().match(one):  # the weakest rule first
            style |= sets
        styles[one.etree_element] = style
    for one, style in styles.items():
        _write(one, style)
    for group in list(root.iter()):
        _outline(group)
    _, _, across, down = map(float, root.attrib["viewBox"].split())
    root.set("width", f"{width:g}mm")
    root.set("height", f"{round(width * down / across, 3):g}mm")
    root.set("font-family", _FONTS)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def available() -> bool:
    """Whether CairoSVG is installed, and the system's cairo that it draws with."""
    try:
        import cairosvg  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def to_pdf(svg: str) -> bytes:
    """What :func:`to_svg` returns as one PDF page; the same bytes under the same cairo and fonts.

    Raises:
        ImportError: CairoSVG is not installed (``titer[plots]``).
        OSError: the system has no cairo.
    """
    from cairocffi import PDF_METADATA_CREATE_DATE, PDF_METADATA_TITLE
    from cairosvg.surface import PDFSurface

    title = ElementTree.fromstring(svg).findtext(f"{{{_SVG}}}title", "")

    class Dateless(PDFSurface):
        """A page that tells its title and not when it was made."""

        def _create_surface(self, width: float, height: float) -> Any:
            made = super()._create_surface(width, height)
            made[0].set_metadata(PDF_METADATA_TITLE, title)
            made[0].set_metadata(PDF_METADATA_CREATE_DATE, "")
            return made

    out = io.BytesIO()
    Dateless.convert(bytestring=svg.encode(), write_to=out)
    return out.getvalue()


@cache
def _light() -> cssselect2.Matcher:
    """The page's rules, without those of a medium: dark, narrow, printed."""
    text = (files("titer.report") / "templates" / "report.css").read_text(encoding="utf-8")
    matcher = cssselect2.Matcher()
    sheet = tinycss2.parse_stylesheet(
        Template(text).render(), skip_comments=True, skip_whitespace=True
    )
    for rule in (rule for rule in sheet if rule.type == "qualified-rule"):
        sets = {
            one.name: " ".join(tinycss2.serialize(one.value).split())
            for one in tinycss2.parse_blocks_contents(rule.content)
            if one.type == "declaration" and (one.name in _SHOWN or one.name.startswith("--"))
        }
        if sets:
            for selector in cssselect2.compile_selector_list(rule.prelude):
                matcher.add_selector(selector, sets)
    return matcher


def _write(element: ElementTree.Element, style: Style) -> None:
    """An element's style as attributes in the place of its classes."""
    for name in ("class", "style"):
        element.attrib.pop(name, None)
    tag = element.tag.rsplit("}", 1)[-1]
    wanted = {"g": ("opacity",), "svg": (), "title": (), "desc": ()}.get(tag, _SHOWN)
    for name in wanted:
        if value := _value(style, name):
            element.set(name, value)


def _value(style: Style, name: str) -> str:
    """What a property comes to once its variables are filled in."""
    raw = style.get(name, "")
    while "var(" in raw:  # a variable may name another
        raw = re.sub(
            r"var\((--[\w-]+)(?:,\s*([^()]*))?\)",
            lambda found: style.get(found[1], found[2] or "none"),
            raw,
        )
    return raw.removesuffix("px")


def _outline(group: ElementTree.Element) -> None:
    """A text's outline as an element beneath it, since few programs know ``paint-order``."""
    for at, one in reversed(list(enumerate(group))):
        if one.attrib.pop("paint-order", "") != "stroke":
            continue
        beneath = deepcopy(one)
        beneath.attrib |= {"fill": "none", "aria-hidden": "true"}
        group.insert(at, beneath)
        for name in _STROKE:
            one.attrib.pop(name, None)
