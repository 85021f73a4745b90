"""The report as one HTML file that needs nothing else: no network, no fonts, no scripts to read it.

It is a pure function of the verdict: the same verdict gives the same bytes.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from titer.core import BadInput
from titer.report import _game, _inside, _page, figures
from titer.report._beside import with_beside
from titer.report._budgets import budgets
from titer.report._check_table import check_table
from titer.report._glossary import OUTCOMES, ROLES, TERMS
from titer.report._lock_section import lock_section
from titer.report.tables import look, number

__all__ = ["current", "read", "render", "write"]

Verdict = Mapping[str, Any]
_PLAIN_DATA = 700_000  # characters of JSON above which the verdict is carried compressed
_DATA = re.compile(r'<script type="application/json" id="verdict">(.*?)</script>', re.S)


def render(verdict: Verdict) -> str:
    """The page. Every text from the verdict is escaped, in markup, in drawings and in the data."""
    ordered = _page.in_order(verdict)
    undefended = next((m for m in ordered if m.get("role") == "undefended"), None)
    oracle = next((m for m in ordered if m.get("role") == "oracle"), None)
    chance = look(verdict, "world").get("chance")
    last = verdict.get("budget_max")
    data, packed = _data(verdict)
    panels = [
        (model, Markup(figures.recovery(model, undefended, oracle, chance=chance, last=last)))
        for model in _subjects(ordered)
    ]
    margin = look(verdict, "settings").get("margin")
    rows = cast(Sequence[Verdict], look(verdict, "suite").get("rows") or ())
    return _template().render(
        v=verdict,
        models=ordered,
        claims=_page.claims(verdict),
        pillars=_page.pillar_grid(verdict),
        panels=panels,
        spent=[
            (model, Markup(drawing))
            for model in _subjects(ordered)
            if (drawing := budgets(model, undefended, oracle))
        ],
        paretos=[
            Markup(figures.pareto(ordered, axis, margin=margin)) for axis in ("weak", "r_star")
        ],
        curves=[
            (model, Markup(figures.shares(model))) for model in ordered if _page.curve_of(model)
        ],
        games=[
            (model, Markup(drawing))
            for model in ordered
            if (drawing := _game.course(_page.items(model, "course")))
        ],
        unplaced=_unplaced(ordered),
        heatmap=Markup(figures.heatmap(rows, ordered)) if rows and ordered else "",
        why=_why(verdict),
        grids=[
            *with_beside(_page.grids(verdict), verdict),
            *(g for g in [_inside.costs(verdict)] if g.rows),
        ],
        details=_page.details(verdict),
        checks=check_table(verdict),
        locks=lock_section(verdict),
        other_trials=_other_trials(verdict),
        outcomes=OUTCOMES,
        roles=ROLES,
        terms=TERMS,
        number=number,
        data=Markup(data),
        script=Markup(_script()),
        script_hash=_hash(_script()),
        packed=packed,
    )


def _why(verdict: Verdict) -> dict[str, Any]:
    """What was found inside, its drawings marked as safe: their texts are escaped already."""
    found = _inside.inside(verdict)
    if found:
        found["figures"] = [(*head, Markup(drawn)) for *head, drawn in found["figures"]]
    return found


def current(verdict: Verdict, path: Path) -> bool:
    """Whether the page at ``path`` is the one that this verdict gives: the same markup to the byte,
    and the same data, however they are packed."""
    try:
        page = path.read_text(encoding="utf-8")
        same = _DATA.sub("", page) == _DATA.sub("", render(verdict))
        return same and read(page) == _finite(verdict)
    except (BadInput, OSError, ValueError, zlib.error):
        return False


def write(verdict: Verdict, path: Path) -> Path:
    """Write the page to ``path`` in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(render(verdict))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


@cache
def _script() -> str:
    return (files("titer.report") / "templates" / "theme.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The only script that the page's policy lets run, so that an escaping fault is no way in."""
    return f"sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("titer.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html.j2")


def _breakable(name: object) -> Markup:
    """A name that may break after its separators, so that a narrow column need not cut a word."""
    pieces = re.split(r"(?<=[-+/_:.])", str(name))
    return Markup("<wbr>").join(pieces)


def _subjects(models: Sequence[Verdict]) -> list[Verdict]:
    """The models that get a panel: all but the references, or those where there is nothing else."""
    tested = [m for m in models if m.get("role") not in ("undefended", "oracle")]
    return tested or list(models)


def _unplaced(models: Sequence[Verdict]) -> list[str]:
    """Models that the scatter cannot place, by name."""

    def known(model: Verdict) -> bool:
        resistance = look(model, "pillars", "resistance")
        delta = look(model, "pillars", "stability", "worst_delta").get("value")
        moved = delta is not None or model.get("role") == "undefended"
        both = (look(resistance, axis).get("value") for axis in ("weak", "r_star"))
        return moved and all(level is not None for level in both)

    return [str(model.get("name", "")) for model in models if not known(model)]


def _other_trials(verdict: Verdict) -> list[tuple[str, str]]:
    """Trials that stand under no attack (calibration, training), with their descriptions."""
    shown = {
        str(key)
        for model in _page.items(verdict, "models")
        for attack in _page.items(model, "attacks")
        for key in attack.get("trials") or ()
    }
    trials = look(verdict, "reproduce", "trials")
    return [(str(key), str(text)) for key, text in trials.items() if str(key) not in shown]


def read(page: str) -> dict[str, Any]:
    """The verdict that a page carries, as it was given to :func:`render`."""
    found = _DATA.search(page)
    if found is None:
        raise BadInput("page: a report written by titer carries its verdict; this text has none.")
    content = json.loads(found[1])
    if set(content) == {"packed"}:
        content = json.loads(zlib.decompress(base64.b64decode(content["packed"])))
    return content


def _data(verdict: Verdict) -> tuple[str, bool]:
    """The verdict as JSON that cannot end its script element, and whether it had to be packed.

    Packed is compressed, not shortened: nothing is rounded or left out.
    """
    text = json.dumps(_finite(verdict), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if packed := len(text) > _PLAIN_DATA:
        squeezed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
        text = json.dumps({"packed": squeezed})
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text, packed


def _finite(content: object) -> object:
    """JSON has no NaN and no infinity; both mean that there is no number."""
    if isinstance(content, Mapping):
        return {str(key): _finite(item) for key, item in cast(Verdict, content).items()}
    if isinstance(content, list | tuple):
        return [_finite(item) for item in cast(Sequence[object], content)]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
