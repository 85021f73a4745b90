"""What the page shows, taken from a verdict and put in reading order: no markup, no statistics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from titer.report._glossary import OUTCOMES, ROLES
from titer.report.tables import (
    COLUMNS,
    DASH,
    PILLARS,
    Column,
    Form,
    interval,
    look,
    number,
    outcome,
    outcome_counts,
    share_name,
    strong,
    tidy,
    value,
)

__all__ = [
    "Cell",
    "Grid",
    "Notes",
    "claims",
    "curve_of",
    "details",
    "grids",
    "in_order",
    "pillar_grid",
]

Verdict = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as shown: value, interval beneath, remarks, and the raw value for machines."""

    value: str
    interval: str = ""
    extra: str = ""
    tone: str = ""
    mark: str = ""
    hint: str = ""
    raw: float | None = None
    first: bool = False


@dataclass(slots=True)
class Notes:
    """Footnotes of one table: equal notes share a mark."""

    found: dict[str, str] = field(default_factory=dict[str, str])

    def mark(self, note: str) -> str:
        """The mark of a note: ``a`` to ``z``, then ``aa``."""
        if not note:
            return ""
        if note not in self.found:
            count, letters = len(self.found), ""
            while count >= 0:
                letters = chr(ord("a") + count % 26) + letters
                count = count // 26 - 1
            self.found[note] = letters
        return self.found[note]


@dataclass(slots=True)
class Grid:
    """A table of models by numbers. ``groups`` are ``(title, span)`` over ``heads``."""

    title: str
    heads: list[tuple[str, str]]
    rows: list[tuple[Verdict, list[Cell]]]
    groups: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    notes: Notes = field(default_factory=Notes)
    about: str = ""


def in_order(verdict: Verdict) -> list[Verdict]:
    """References first, then the defended models, then the controls."""
    order = list(ROLES)

    def place(model: Verdict) -> int:
        role = model.get("role")
        return order.index(role) if role in order else len(order)

    return sorted(items(verdict, "models"), key=place)


def items(content: Verdict, key: str) -> list[Verdict]:
    """The list at ``key``; a verdict that has none shows none."""
    return list(cast(Sequence[Verdict], content.get(key) or ()))


def cell(est: Verdict, form: Form, notes: Notes, **more: Any) -> Cell:
    """An estimate as a cell; its note becomes a footnote and, for a mouse, a hint."""
    note = tidy(est.get("note") or "")
    count = est.get("n") or 0
    hint = "; ".join(part for part in (f"n = {count}" if count else "", note) if part)
    raw = est.get("value")
    return Cell(
        value=value(est, form),
        interval=interval(est, form),
        mark=notes.mark(note),
        hint=hint,
        raw=raw if isinstance(raw, int | float) else None,
        **more,
    )


def claims(verdict: Verdict) -> list[dict[str, Any]]:
    """A claim for each model that has one, defended models first; the first sentence leads."""
    order = {"defended": 0, "control": 1, "oracle": 2, "undefended": 3}
    models = sorted(in_order(verdict), key=lambda m: order.get(str(m.get("role")), 4))
    found: list[dict[str, Any]] = []
    for model in models:
        # A full stop inside a number or an abbreviation is not followed by blank and capital.
        lead, *rest = re.split(r"(?<=[.!?])\s+(?=[A-Z])", str(model.get("claim") or ""), maxsplit=1)
        counts = outcome_counts(model)
        shown = [
            (name, OUTCOMES.get(name, (DASH, ""))[0], count)
            for name, count in counts.items()
            if count
        ]
        found.append({"model": model, "lead": lead, "rest": "".join(rest), "counts": shown})
    return [entry for entry in found if entry["lead"]]


def pillar_grid(verdict: Verdict) -> Grid:
    """The four-pillar table, erasure standing beside resistance."""
    groups = [
        (title, sum(column.pillar == pillar for column in COLUMNS))
        for pillar, title in PILLARS.items()
    ]
    grid = Grid("", [(column.title, column.says) for column in COLUMNS], [], groups)
    for model in in_order(verdict):
        cells: list[Cell] = []
        for at, column in enumerate(COLUMNS):
            first = not at or COLUMNS[at - 1].pillar != column.pillar
            extra, tone = _against_phi(model) if column.key == "weak" else ("", "")
            est = look(model, "pillars", column.pillar, column.key)
            if column.key in ("rtt", "in_domain") and not est.get("note"):
                est = {**est, "note": look(model, "pillars", column.pillar).get("note") or ""}
            more = {"first": first, "extra": extra, "tone": tone}
            cells.append(cell(est, column.form, grid.notes, **more))
        grid.rows.append((model, cells))
    return grid


def _against_phi(model: Verdict) -> tuple[str, str]:
    resistance = look(model, "pillars", "resistance")
    phi, passes = resistance.get("phi"), resistance.get("passes")
    if phi is None:
        return "", ""
    if passes is None:
        known = look(resistance, "weak").get("value") is not None
        return f"φ {number(phi)}" + (", open" if known else ""), ""
    return (f"● < φ {number(phi)}", "held") if passes else (f"✕ ≥ φ {number(phi)}", "breached")


def grids(verdict: Verdict) -> list[Grid]:
    """The smaller tables, one a pillar; a pillar without any number is left out."""
    made = [_resistance(verdict), _measures(verdict), _stability(verdict)]
    made += [_generalisation(verdict), _in_domain(verdict), _trainability(verdict)]
    return [grid for grid in made if grid.heads and grid.rows]


_FURTHER = (
    Column("resistance", "margin", "Margin φ − W", "signed", "negative: exceeded"),
    Column("resistance", "steps_to_recover", "Steps to φ", "steps", "fastest attack"),
    Column("resistance", "work_factor_geomean", "Mean work factor", "ratio", "geometric mean"),
    Column("resistance", "area", "Area", "score", "under the recovery curve"),
    Column("resistance", "optimism_gap", "Optimism gap", "signed", "selection minus report"),
    Column("resistance", "weak_outside", "Other reference", "score", "W, the outside option"),
    Column("erasure", "honest_zero", "Honest zero", "score", "came back where nothing was"),
)


def _resistance(verdict: Verdict) -> Grid:
    heads = [(column.title, column.says) for column in _FURTHER]
    grid = Grid("Resistance and erasure", [*heads, ("Worst attack", "row"), ("Strong", "")], [])
    for model in in_order(verdict):
        cells = [
            cell(look(model, "pillars", column.pillar, column.key), column.form, grid.notes)
            for column in _FURTHER
        ]
        worst = look(model, "pillars", "resistance").get("worst_attack")
        head, *tail = re.split(r"[:;,] *", strong(model), maxsplit=1)
        cells += [
            Cell(tidy(worst or DASH), tone="words"),
            Cell(head, mark=grid.notes.mark("".join(tail)), tone="words"),
        ]
        grid.rows.append((model, cells))
    return grid


def _measures(verdict: Verdict) -> Grid:
    """Further measures of harm; they decide nothing."""
    probes = _columns_of(verdict, "resistance", "also")
    grid = Grid("Other measures of harm", [(probe, "worst attack") for probe in probes], [])
    grid.about = "Under the same attacks, utility kept. They have no threshold and decide nothing."

    def make(model: Verdict, name: str) -> Cell:
        probe = look(model, "pillars", "resistance", "also", name)
        before = look(probe, "before")
        extra = f"before {value(before)}" if before else ""
        return cell(look(probe, "after"), "score", grid.notes, extra=extra, tone="text")

    return _table(verdict, grid, probes, make)


def _columns_of(verdict: Verdict, *path: str) -> list[str]:
    """Every name that any model has at ``path``, in order of first appearance."""
    names: dict[str, None] = {}
    for model in in_order(verdict):
        names |= dict.fromkeys(str(name) for name in look(model, "pillars", *path))
    return list(names)


def _table(
    verdict: Verdict, grid: Grid, names: Sequence[str], make: Callable[[Verdict, str], Cell]
) -> Grid:
    for model in in_order(verdict):
        grid.rows.append((model, [make(model, name) for name in names]))
    return grid


_REFUSALS = ("over_refusal", "over_refusal_before")


def _stability(verdict: Verdict) -> Grid:
    suites = _columns_of(verdict, "stability", "suites")
    heads = [(suite, "change in points") for suite in suites]
    heads += [("Perplexity", "against undefended"), ("Over-refusal", "benign requests refused")]
    grid = Grid("Stability", heads, [])

    def make(model: Verdict, name: str) -> Cell:
        if name == "\0perplexity":
            est = look(model, "pillars", "stability", "perplexity_ratio")
            return cell(est, "ratio", grid.notes)
        if name == "\0refusal":
            now, then = (look(model, "pillars", "stability", key) for key in _REFUSALS)
            extra = f"{value(then, 'percent')} undefended" if then else ""
            return cell(now, "percent", grid.notes, extra=extra, tone="text")
        suite = look(model, "pillars", "stability", "suites", name)
        before, after = look(suite, "before"), look(suite, "after")
        extra = f"{value(before)} → {value(after)}" if suite else ""
        word = {True: " · equivalent", False: " · not shown equivalent"}
        extra += word.get(cast(bool, suite.get("equivalent")), "")
        return cell(look(suite, "delta"), "points", grid.notes, extra=extra, tone="text")

    return _table(verdict, grid, [*suites, "\0perplexity", "\0refusal"], make)


def _generalisation(verdict: Verdict) -> Grid:
    pairs = _columns_of(verdict, "generalisation", "cross_domain")
    heads = [("In domain", "R*"), *((pair.replace("->", " → "), "R*") for pair in pairs)]
    about = "Immunised on the first, attacked on the second."
    if not any(curve_of(model) for model in items(verdict, "models")):
        about += " The curve over the defender's share of the hazard was not measured."
    grid = Grid("Generalisation", heads, [], about=about)

    def make(model: Verdict, name: str) -> Cell:
        pillar = look(model, "pillars", "generalisation")
        path = ("cross_domain", name) if name else ("in_domain",)
        harm = value(look(pillar, "cross_harm", name)) if name else DASH
        extra = f"harm {harm}" if harm != DASH else ""
        return cell(look(pillar, *path), "score", grid.notes, extra=extra, tone="text")

    return _table(verdict, grid, ["", *pairs], make)


def curve_of(model: Verdict) -> list[Verdict]:
    """The points of a model's in-domain curve, least share first; none where not measured."""
    return items(look(model, "pillars", "generalisation"), "curve")


def _in_domain(verdict: Verdict) -> Grid:
    """R* by the share of the hazard that the defender had, for models whose defence was redone."""
    shares = sorted({p["share"] for model in items(verdict, "models") for p in curve_of(model)})
    heads = [(share_name({"share": share}), "of the hazard") for share in shares]
    about = "R* when immunised on a share, drawn anew for each seed; attacked and judged as ever."
    grid = Grid("In-domain generalisation", heads, [], about=about)
    for model in in_order(verdict):
        if model.get("role") not in ("defended", "control"):
            continue
        points = {point["share"]: point for point in curve_of(model)}
        cells = [Cell("not measured", tone="words")] * len(shares)
        for at, share in enumerate(shares):
            if point := points.get(share):
                extra = f"harm {value(look(point, 'weak'))} · {point['entities']} of "
                extra += f"{point['total']} entities"
                est = look(point, "r_star")
                cells[at] = cell(est, "score", grid.notes, extra=extra, tone="text")
        grid.rows.append((model, cells))
    return grid


def _trainability(verdict: Verdict) -> Grid:
    tasks = _columns_of(verdict, "trainability", "tasks")
    near = {
        task
        for task in tasks
        for model in items(verdict, "models")
        if look(model, "pillars", "trainability", "tasks", task).get("near_hazard")
    }
    heads = [(task, "near hazard" if task in near else "steps ratio") for task in tasks]
    grid = Grid(
        "Trainability", heads, [], about="Steps to learn a benign task, best rate for each."
    )

    def make(model: Verdict, name: str) -> Cell:
        task = look(model, "pillars", "trainability", "tasks", name)
        if not task:
            return Cell(DASH)
        gap, bricked = look(task, "gap"), look(task, "bricked")
        extra = f"final {value(gap, 'points')} · bricked {value(bricked, 'percent')}"
        rate = task.get("best_lr")
        extra += f" · lr {rate:g}" if isinstance(rate, int | float) else ""
        tone = "warn" if (bricked.get("value") or 0) > 0 else "text"
        return cell(look(task, "ratio"), "ratio", grid.notes, extra=extra, tone=tone)

    return _table(verdict, grid, tasks, make)


def details(verdict: Verdict) -> list[dict[str, Any]]:
    """Every attack and every budget of every model, with the trials behind each number."""
    return [
        {
            "model": model,
            "attacks": [_attack(attack) for attack in items(model, "attacks")],
            "profile": [
                _budget(point) for point in items(look(model, "pillars", "resistance"), "curve")
            ],
            "search": [
                (number(one.get("k"), "steps"), value(one), interval(one))
                for one in items(look(model, "pillars", "resistance"), "search")
            ],
        }
        for model in in_order(verdict)
    ]


def _attack(attack: Verdict) -> dict[str, Any]:
    found = outcome(attack)
    seeds = [str(seed) for seed in attack.get("by_seed") or ()]
    forms: dict[str, Form] = {
        "harm": "score",
        "harm_unconstrained": "score",
        "utility": "score",
        "tau": "steps",
    }
    shapes = [
        (value(look(attack, key), form), interval(look(attack, key), form))
        for key, form in forms.items()
    ]
    notes = (look(attack, key).get("note") for key in forms)
    validity = str(attack.get("validity") or "valid")
    remarks = [validity] if validity != "valid" else []
    remarks += [str(flag) for flag in attack.get("flags") or ()]
    remarks += [str(note) for note in dict.fromkeys(notes) if note]
    return {
        "row": attack.get("row", ""),
        "title": attack.get("title", ""),
        "outcome": found,
        "kind": found.split()[0] if found else "none",
        "glyph": OUTCOMES.get(found, (DASH, ""))[0],
        "seeds": "".join(OUTCOMES.get(seed, (DASH, ""))[0] for seed in seeds),
        "numbers": shapes,
        "remarks": "; ".join(tidy(remark) for remark in remarks),
        "trials": [str(key) for key in attack.get("trials") or ()],
    }


def _budget(point: Verdict) -> dict[str, Any]:
    flops = point.get("flops")
    free = look(point, "harm_unconstrained")
    return {
        "spent": [number(point.get(axis), "steps") for axis in ("steps", "tokens", "examples")],
        "flops": f"{flops:.2g}".replace("e+", "e") if isinstance(flops, int | float) else DASH,
        "harm": (value(look(point, "harm")), interval(look(point, "harm"))),
        "free": (value(free), interval(free)),
        "attack": point.get("attack") or DASH,
    }
