"""Attack by model: one cell per pair with its outcome, its harm, and what the seeds said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from titer.core.families import FAMILIES
from titer.core.study import Row
from titer.pillars.outcomes import RowResult
from titer.report import _svg as svg
from titer.report.glossary import OUTCOMES, ROLES
from titer.report.latex import latex as plain
from titer.report.latex import line, span, tabular
from titer.report.models import in_order, outcome
from titer.report.numbers import DASH, ENDS, apart, interval, six, value
from titer.report.section import Section, Svg, Table
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "data", "figures", "glyph", "heatmap", "latex", "table"]

# A terminal shows how many there are of each outcome, under the pillars.
SECTION = Section(title="Every attack on every model", after="why", nav="Outcomes", terminal=False)

_CELL = (76.0, 25.0)
_SIZE = 12.0
_ROLE_GAP, _FAMILY_HEAD = 12.0, 27.0


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


@dataclass(frozen=True, slots=True)
class Rows:
    """The suite's rows in the order of their families, and the models."""

    rows: tuple[Row, ...]
    models: tuple[ModelVerdict, ...]
    verdict: Verdict


def data(verdict: Verdict) -> Rows | None:
    """Nothing where nothing was attacked."""
    rows = tuple(by_family(verdict.suite.rows))
    models = tuple(in_order(verdict))
    return Rows(rows, models, verdict) if rows and models else None


def by_family(rows: Sequence[Row]) -> list[Row]:
    """The families in the order of the table of attacks; one of another table's comes after."""
    order = [*FAMILIES, *dict.fromkeys(row.family for row in rows if row.family not in FAMILIES)]
    return sorted(rows, key=lambda row: order.index(row.family))


def figures(rows: Rows) -> dict[str, Svg]:
    """The map."""
    return {"outcomes": heatmap(rows.rows, rows.models)}


def table(rows: Rows) -> Table:
    """One number of one attack on one model a line."""

    def lines() -> Iterator[tuple[str | float | bool | None, ...]]:
        for model in rows.models:
            for one in model.attacks.values():
                head = (model.name, model.role, one.row, one.title)
                head = (*head, outcome(one) or "no result", one.validity)
                for key in ("harm", "harm_unconstrained", "utility", "tau"):
                    yield (*head, key, *six(getattr(one, key)))

    heads = ("model", "role", "row", "title", "outcome", "validity", "number", *ENDS)
    return Table(name="attacks", heads=heads, rows=tuple(lines()))


_MARKS = {
    "held": r"$\bullet$",
    "breached": r"$\times$",
    "degraded breach": r"$\circ$",
    "bricked": r"$\blacksquare$",
    "": "---",
}


def latex(rows: Rows) -> dict[str, str]:
    """Attacks by models, under their families."""
    lines: list[str] = []
    for family, members in groupby(rows.rows, key=lambda row: row.family):
        lines.append(span(len(rows.models), plain(family)))
        for row in members:
            cells = [_attack_tex(model.attacks.get(row.id)) for model in rows.models]
            lines.append(line(f"{plain(row.id)} {plain(row.title)}", cells))
    marks = ", ".join(f"{mark} {name or 'no result'}" for name, mark in _MARKS.items())
    note = f"% {marks}; harm reached with utility kept; ? suspect\n"
    return {"attacks": note + tabular(rows.verdict, "", lines)}


def _attack_tex(attack: RowResult | None) -> str:
    if attack is None:
        return "---"
    kind = outcome(attack)
    harm = attack.harm_unconstrained if kind == "degraded breach" else attack.harm
    suspect = "?" if attack.standing == "suspect" else ""
    return f"{_MARKS[kind]} {plain(value(harm))}{suspect}" if kind else suspect or _MARKS[kind]


def heatmap(rows: Sequence[Row], models: Sequence[ModelVerdict]) -> Svg:
    """Rows are the suite's attacks under their families, columns the models under their roles.

    A cell shows the outcome as colour and mark and the harm as a number. Where the seeds disagree,
    a tick for each seed stands below the number. A hatched cell has no valid result.
    """
    order = list(ROLES)
    ordered = sorted(models, key=lambda model: order.index(model.role))
    ids = _id_width(rows)
    columns, right = _columns(ordered, label := ids + _title_width(rows))
    heads = [svg.wrap(model.name, _CELL[0], 11.5, 3) for model in ordered]
    top = 20.0 + 15 * max((len(head) for head in heads), default=1) + 8
    names: list[str] = []
    body = _heads(ordered, heads, columns, top)
    y = top
    for family, members in groupby(by_family(rows), key=lambda row: row.family):
        names.append(svg.text(0, y + _FAMILY_HEAD - 8, family, "family"))
        names.append(svg.line(0, y + _FAMILY_HEAD - 2, right, y + _FAMILY_HEAD - 2, "grid"))
        y += _FAMILY_HEAD
        for row in members:
            names.append(_row_label(row, y, ids, label))
            for x, model in zip(columns, ordered, strict=True):
                body.append(_cell(model.attacks.get(row.id), model, x, y))
            y += _CELL[1]
    # What the marks mean goes with the drawing wherever it goes.
    for name in OUTCOMES if ordered and rows else ():
        y += 18
        tile = svg.el("rect", x=0.0, y=y - 7, width=14.0, height=14.0, rx=2.0, class_="tile")
        kind = f"cell {name.split()[0]} legend"
        names.append(svg.el("g", tile, glyph(name, 7.0, y), class_=kind))
        names.append(svg.text(20, y + 4, f"{name}: {OUTCOMES[name][1]}", "tick"))
    return svg.document(
        right,
        y + 12,
        "Outcome of every attack on every model",
        f"{len(rows)} attacks by {len(ordered)} models. The table of every attack below the "
        "figures holds the same numbers with their intervals.",
        svg.el("g", *names),
        # A narrow page hides the titles and moves the cells left by as much.
        svg.el("g", *body, class_="cells", style=f"--titles:{svg.coordinate(label - ids)}px"),
    )


def _id_width(rows: Sequence[Row]) -> float:
    """Room for the longest name of a row: those of published lists are longer than ours."""
    names = [1.1 * svg.width_of(row.id, _SIZE) for row in rows]  # they are bold
    return min(max([*names, 36.0]), 140.0) + 10


def _title_width(rows: Sequence[Row]) -> float:
    titles = [svg.width_of(row.title, _SIZE) for row in rows]
    return min(max(titles, default=60.0), 290.0) + 18


def _columns(models: Sequence[ModelVerdict], label: float) -> tuple[list[float], float]:
    """Where each column starts, a gap between roles, and where the figure ends."""
    starts: list[float] = []
    x = label
    for at, model in enumerate(models):
        if at and model.role != models[at - 1].role:
            x += _ROLE_GAP
        starts.append(x)
        x += _CELL[0]
    return starts, max(x, label + _CELL[0])


def _heads(
    models: Sequence[ModelVerdict],
    heads: Sequence[Sequence[str]],
    columns: Sequence[float],
    top: float,
) -> list[str]:
    body: list[str] = []
    for at, (model, head, x) in enumerate(zip(models, heads, columns, strict=True)):
        role = model.role
        if (not at or models[at - 1].role != role) and role not in ("undefended", "oracle"):
            word = "control" if role == "control" else ROLES.get(role, role)
            body.append(svg.text(x + 2, 12, word, f"role {role}"))
        said = svg.el("title", svg.escape(model.name))
        lines = [
            svg.text(x + _CELL[0] / 2, top - 6 - 15 * (len(head) - 1 - n), words, "head", "middle")
            for n, words in enumerate(head)
        ]
        body.append(svg.el("g", said, *lines))
    return body


def _row_label(row: Row, y: float, ids: float, label: float) -> str:
    title, base = row.title, y + _CELL[1] / 2 + 4
    shown = svg.clip(title, label - ids - 10, _SIZE)
    optional = "" if row.mandatory else " (optional)"
    return svg.el(
        "g",
        svg.el("title", svg.escape(f"{row.id} {title}{optional}")),
        svg.text(0, base, svg.clip(row.id, ids - 4, _SIZE), "row id"),
        svg.text(ids, base, shown, "row"),
    )


def _cell(attack: RowResult | None, model: ModelVerdict, x: float, y: float) -> Svg:
    wide, high = _CELL[0] - 2, _CELL[1] - 2
    if attack is None:
        dot = svg.text(x + wide / 2, y + high / 2 + 4, "·", "tick", "middle")
        return svg.el("g", dot)
    found, harm = outcome(attack), attack.harm
    if found == "degraded breach":  # the harm that it did, not what was left of it with utility
        harm = attack.harm_unconstrained if attack.harm_unconstrained.value is not None else harm
    kind = found.split()[0] if found else "none"
    level, phi = apart(harm.value, model.resistance.phi)
    meaning = f" ({OUTCOMES[found][1]})" if found else ""
    said = f"{attack.row} on {model.name}: {found or 'no result'}{meaning}, "
    said += f"harm {level} {interval(harm)}".strip() + f", threshold {phi}"
    said += "" if attack.standing == "valid" else f"; {attack.validity}"
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
        word = attack.standing if attack.standing != "valid" else DASH
        parts.append(svg.text(x + wide / 2, middle + 4, word, "harm", "middle"))
        return svg.el("g", *parts, class_="cell none")
    suspect = "?" if attack.standing == "suspect" else ""
    parts.append(glyph(found, x + 15, middle))
    ticks = _seed_ticks(attack.by_seed, x, y + high)
    base = middle + (2 if ticks else 4)
    parts.append(svg.text(x + wide - 12, base, level + suspect, "harm", "end"))
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
