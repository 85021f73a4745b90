"""Attack by model: one cell per pair with its outcome, its harm, and what the seeds said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from titer.report import _svg as svg
from titer.report._glossary import FAMILIES, OUTCOMES, ROLES
from titer.report.tables import DASH, interval, look, outcome, value

__all__ = ["glyph", "heatmap"]

Verdict = Mapping[str, Any]
_CELL = (76.0, 25.0)
_SIZE = 12.0
_ROLE_GAP, _FAMILY_HEAD, _ORDER = 12.0, 27.0, tuple(ROLES)


def glyph(name: str, cx: float, cy: float) -> str:
    """The mark of an outcome, drawn, so that it does not hang on a font."""
    if name == "held":
        return svg.el("circle", cx=cx, cy=cy, r=4.2, class_="glyph full")
    if name == "bricked":
        return svg.el("rect", x=cx - 4, y=cy - 4, width=8.0, height=8.0, class_="glyph full")
    c = svg.coordinate
    if name == "breached":
        path = f"M{c(cx - 3.8)},{c(cy - 3.8)}l7.6,7.6m0,-7.6l-7.6,7.6"
        return svg.el("path", d=path, class_="glyph stroke")
    if name == "degraded breach":
        half = f"M{c(cx)},{c(cy - 4.2)}a4.2,4.2 0 0 0 0,8.4z"
        ring = svg.el("circle", cx=cx, cy=cy, r=4.2, class_="glyph ring")
        return ring + svg.el("path", d=half, class_="glyph full")
    return ""


def heatmap(rows: Sequence[Verdict], models: Sequence[Verdict]) -> str:
    """Rows are the suite's attacks under their families, columns the models under their roles.

    A cell shows the outcome as colour and mark and the harm as a number. Where the seeds disagree,
    a tick for each seed stands below the number. A hatched cell has no valid result.
    """
    ordered = sorted(models, key=lambda model: _position(model))
    ids = _id_width(rows)
    columns, right = _columns(ordered, label := ids + _title_width(rows))
    heads = [svg.wrap(str(m.get("name", "")), _CELL[0], 11.5, 3) for m in ordered]
    top = 20.0 + 15 * max((len(head) for head in heads), default=1) + 8
    names: list[str] = []
    body = _heads(ordered, heads, columns, top)
    cells = [{str(a.get("row")): a for a in m.get("attacks") or ()} for m in ordered]
    y = top
    families = list(dict.fromkeys(str(row.get("family", "")) for row in rows))
    grouped = sorted(rows, key=lambda row: families.index(str(row.get("family", ""))))
    for family, members in groupby(grouped, key=lambda row: str(row.get("family", ""))):
        named = FAMILIES.get(family, family)
        words = f"{family} · {named}" if named != family else family
        names.append(svg.text(0, y + _FAMILY_HEAD - 8, words, "family"))
        names.append(svg.line(0, y + _FAMILY_HEAD - 2, right, y + _FAMILY_HEAD - 2, "grid"))
        y += _FAMILY_HEAD
        for row in members:
            names.append(_row_label(row, y, ids, label))
            for x, model, found in zip(columns, ordered, cells, strict=True):
                attack = found.get(str(row.get("id")))
                body.append(_cell(attack, str(model.get("name", "")), x, y))
            y += _CELL[1]
    return svg.document(
        right,
        y + 4,
        "Outcome of every attack on every model",
        f"{len(rows)} attacks by {len(ordered)} models. The table of every attack below the "
        "figures holds the same numbers with their intervals.",
        svg.el("g", *names),
        # A narrow page hides the titles and moves the cells left by as much.
        svg.el("g", *body, class_="cells", style=f"--titles:{svg.coordinate(label - ids)}px"),
    )


def _position(model: Verdict) -> int:
    role = str(model.get("role", ""))
    return _ORDER.index(role) if role in _ORDER else len(_ORDER)


def _id_width(rows: Sequence[Verdict]) -> float:
    """Room for the longest name of a row: those of published lists are longer than ours."""
    names = [1.1 * svg.width_of(str(row.get("id", "")), _SIZE) for row in rows]  # they are bold
    return min(max([*names, 36.0]), 140.0) + 10


def _title_width(rows: Sequence[Verdict]) -> float:
    titles = [svg.width_of(str(row.get("title", "")), _SIZE) for row in rows]
    return min(max(titles, default=60.0), 290.0) + 18


def _columns(models: Sequence[Verdict], label: float) -> tuple[list[float], float]:
    """Where each column starts, a gap between roles, and where the figure ends."""
    starts: list[float] = []
    x = label
    for at, model in enumerate(models):
        if at and model.get("role") != models[at - 1].get("role"):
            x += _ROLE_GAP
        starts.append(x)
        x += _CELL[0]
    return starts, max(x, label + _CELL[0])


def _heads(
    models: Sequence[Verdict],
    heads: Sequence[Sequence[str]],
    columns: Sequence[float],
    top: float,
) -> list[str]:
    body: list[str] = []
    for at, (model, head, x) in enumerate(zip(models, heads, columns, strict=True)):
        role = str(model.get("role", ""))
        if (not at or models[at - 1].get("role") != role) and role not in ("undefended", "oracle"):
            word = "control" if role == "control" else ROLES.get(role, role)
            body.append(svg.text(x + 2, 12, word, f"role {role}"))
        said = svg.el("title", svg.escape(model.get("name", "")))
        lines = [
            svg.text(x + _CELL[0] / 2, top - 6 - 15 * (len(head) - 1 - n), words, "head", "middle")
            for n, words in enumerate(head)
        ]
        body.append(svg.el("g", said, *lines))
    return body


def _row_label(row: Verdict, y: float, ids: float, label: float) -> str:
    title, base = str(row.get("title", "")), y + _CELL[1] / 2 + 4
    shown = svg.clip(title, label - ids - 10, _SIZE)
    optional = "" if row.get("mandatory", True) else " (optional)"
    return svg.el(
        "g",
        svg.el("title", svg.escape(f"{row.get('id', '')} {title}{optional}")),
        svg.text(0, base, svg.clip(str(row.get("id", "")), ids - 4, _SIZE), "row id"),
        svg.text(ids, base, shown, "row"),
    )


def _cell(attack: Verdict | None, model: str, x: float, y: float) -> str:
    wide, high = _CELL[0] - 2, _CELL[1] - 2
    if attack is None:
        dot = svg.text(x + wide / 2, y + high / 2 + 4, "·", "tick", "middle")
        return svg.el("g", dot)
    found, harm = outcome(attack), look(attack, "harm")
    if found == "degraded breach":  # the harm that it did, not what was left of it with utility
        harm = look(attack, "harm_unconstrained") or harm
    validity = str(attack.get("validity") or "valid")
    kind = found.split()[0] if found else "none"
    said = f"{attack.get('row', '')} on {model}: {found or 'no result'}, "
    said += f"harm {value(harm)} {interval(harm)}".strip()
    said += "" if validity == "valid" else f"; {validity}"
    parts = [
        svg.el("title", svg.escape(said)),
        svg.el("rect", x=x, y=y, width=wide, height=high, rx=2.5, class_="tile"),
    ]
    middle = y + high / 2
    if not found:
        parts += [
            svg.line(x + 4 + d, y + high - 3, x + d + high - 2, y + 3, "hatch")
            for d in range(0, int(wide - high), 9)
        ]
        word = validity.split(":")[0] if validity != "valid" else DASH
        parts.append(svg.text(x + wide / 2, middle + 4, word, "harm", "middle"))
        return svg.el("g", *parts, class_="cell none")
    suspect = "?" if validity.startswith("suspect") else ""
    parts.append(glyph(found, x + 15, middle))
    ticks = _seed_ticks([str(seed) for seed in attack.get("by_seed") or ()], x, y + high)
    base = middle + (2 if ticks else 4)
    parts.append(svg.text(x + wide - 12, base, value(harm) + suspect, "harm", "end"))
    parts += ticks
    return svg.el("g", *parts, class_=f"cell {kind}")


def _seed_ticks(by_seed: Sequence[str], x: float, bottom: float) -> list[str]:
    """One tick a seed, where they disagree: a mean of two modes is neither."""
    if len(set(by_seed)) < 2:
        return []
    step = min(8.0, (_CELL[0] - 34) / len(by_seed))
    start = x + _CELL[0] - 14 - step * len(by_seed)
    return [
        svg.el(
            "rect",
            x=start + step * at,
            y=bottom - 5,
            width=step - 1.5,
            height=3.0,
            class_=f"seed {seed.split()[0] if seed in OUTCOMES else 'none'}",
        )
        for at, seed in enumerate(by_seed)
    ]
