"""The report as one HTML file that needs nothing else: no network, no fonts, no scripts to read it.

It is a pure function of the verdict: the same verdict gives the same bytes.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from titer.core.errors import BadInput
from titer.core.files import atomic_file
from titer.core.printable import printable
from titer.core.reading import load_json
from titer.report._pages import ANSWERS, environment, explaining
from titer.report.glossary import OUTCOMES, ROLES
from titer.report.section import Part, parts
from titer.verdict.parts import Verdict

__all__ = ["current", "read", "render", "write"]

_PLAIN_DATA = 700_000  # characters of JSON above which the verdict is carried compressed
_DATA = re.compile(r'<script type="application/json" id="verdict">(.*?)</script>', re.S)


def render(verdict: Verdict, *, answers: bool = False) -> str:
    """The page. Every text from the verdict is escaped, in markup, in drawings and in the data.

    With ``answers`` it links to the page of what was said, which lies beside it.
    """
    env = environment()
    data, packed = _data(verdict)
    common = {
        "verdict": verdict,
        "outcomes": OUTCOMES,
        "roles": ROLES,
        "safe": Markup,
        **explaining(),
    }
    shown = [(part, _fragment(part, env, common)) for part in parts(verdict) if part.fragment]
    page = env.get_template("report.html.j2").render(
        **common,
        sections=shown,
        answers=ANSWERS if answers else "",
        data=Markup(data),
        script=Markup(_script()),
        script_hash=_hash(_script()),
        packed=packed,
    )
    return printable(page, page=True)


def _fragment(part: Part, env: Environment, common: Mapping[str, Any]) -> Markup:
    drawings = {name: Markup(drawing) for name, drawing in part.figures().items()}
    names = "chips, grid, heads, outcome, pair, source, term"
    head = f'{{% from "macros.html.j2" import {names} with context %}}'
    template = env.from_string(head + part.fragment)
    return Markup(template.render(**common, rows=part.rows, figures=drawings))


def current(verdict: Verdict, path: Path) -> bool:
    """Whether the page at ``path`` is the one that this verdict gives: the same markup to the byte,
    and the same data, however they are packed."""
    try:
        page = path.read_text(encoding="utf-8")
        again = render(verdict, answers=_beside(path))
        same = _DATA.sub("", page) == _DATA.sub("", again)
        return same and _carried(page) == json.loads(json.dumps(verdict.to_json()))
    except (BadInput, OSError, ValueError, zlib.error):
        return False


def write(verdict: Verdict, path: Path) -> Path:
    """Write the page to ``path`` in one step: a reader sees the old file or the new one."""
    with atomic_file(path, mode=0o644) as file:
        file.write(render(verdict, answers=_beside(path)).encode("utf-8"))
    return path


def _beside(path: Path) -> bool:
    return path.with_name(ANSWERS).is_file()


@cache
def _script() -> str:
    return (files("titer.report") / "templates" / "theme.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The only script that the page's policy lets run, so that an escaping fault is no way in."""
    return f"sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}"


def read(page: str) -> Verdict:
    """The verdict that a page carries, as it was given to :func:`render`.

    Raises:
        BadInput: the page carries none.
    """
    return Verdict.from_json(_carried(page))


def _carried(page: str) -> Any:
    found = _DATA.search(page)
    if found is None:
        raise BadInput("page: a report written by titer carries its verdict; this text has none.")
    content = load_json(found[1])
    if set(content) == {"packed"}:
        content = load_json(zlib.decompress(base64.b64decode(content["packed"])))
    return content


def _data(verdict: Verdict) -> tuple[str, bool]:
    """The verdict as JSON that cannot end its script element, and whether it had to be packed.

    Packed is compressed, not shortened: nothing is rounded or left out.
    """
    text = json.dumps(verdict.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if packed := len(text) > _PLAIN_DATA:
        squeezed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
        text = json.dumps({"packed": squeezed})
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text, packed
