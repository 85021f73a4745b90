"""The picture of a game says what the numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from titer.report import _game, _paper

ROWS = [
    {"step": 0.0, "success": 1.0, "loss": 3.0, "adversary": 0.1, "norm": 2.0, "rank": 1.5},
    {"step": 10.0, "success": 0.5, "loss": 1.0, "adversary": 2.0, "norm": 3.0, "fresh": 0.75},
    {"step": 20.0, "success": 0.25, "loss": 0.5, "adversary": 4.0, "norm": 4.0, "rank": 2.0},
]


def _ends(drawing: str) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for path in ElementTree.fromstring(drawing).iter():
        if path.tag.endswith("path"):
            name = next(c.text for c in path if c.tag.endswith("title"))
            x, y = path.attrib["d"].replace("h3", "").replace("M", "L").split("L")[-1].split(",")
            found[str(name)] = (float(x), float(y))
    return found


def test_lines_end_where_the_numbers_do() -> None:
    ends = _ends(_game.course(ROWS))
    top, high = 44.0, 170.0
    assert ends["its adversary"] == (400.0, round(top + high * (1 - 0.25 / 1.02), 1))
    assert ends["a new one"][0] == (48 + 400) / 2
    assert ends["a new one"][1] < ends["its adversary"][1]


def test_no_game_no_picture_and_names_are_escaped() -> None:
    assert _game.course([{"step": 1.0, "loss": 2.0}]) == ""
    looks = [{"step": 0, "harm": 1.0, "current": 1.0, "utility": 1.0, "fresh": None}]
    drawing = _paper.to_svg(_game.race(looks, "<b>", phi=0.4, exam=0.5), 150.0)
    root = ElementTree.fromstring(drawing.encode())
    assert root.attrib["aria-label"] == "<b>"
    lines = [one for one in root.iter() if one.tag.endswith("path")]
    assert lines
    assert all("stroke" in one.attrib and "class" not in one.attrib for one in lines)
