"""Erased, or only suppressed? What was found inside the models, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from titer.core import catalogue
from titer.core.insides import Column, Reader, Shown, Table
from titer.core.records import Estimate, Reading
from titer.report import _svg as svg
from titer.report.grid import Cell, Grid, cell
from titer.report.models import in_order
from titer.report.numbers import DASH, number, shown, tidy
from titer.report.section import Section, Svg
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Profile", "Rows", "data", "figures"]

SECTION = Section(title="Erased, or only suppressed?", after="shares", nav="Erased or suppressed")

_SIZE = (460.0, 280.0)
_FIELD = (48.0, 38.0, 318.0, 226.0)  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Profile:
    """One drawing: the model, what was read, and what it reads like."""

    model: ModelVerdict
    title: str
    drawing: Svg


@dataclass(frozen=True, slots=True)
class Rows:
    """Sentences, tables, drawings and every reading."""

    sentences: tuple[str, ...]
    grids: tuple[Grid, ...]
    profiles: tuple[Profile, ...]
    readings: tuple[tuple[ModelVerdict, tuple[tuple[str, ...], ...]], ...]


def data(verdict: Verdict) -> Rows | None:
    """Nothing where nothing was looked at."""
    models = in_order(verdict)
    if not any(model.inside for model in models):
        return None
    references = {str(model.role): model for model in reversed(models)}
    tested = [model for model in models if model.role in ("defended", "control")]
    says = _shown(models)
    readers = {name: one.reader for name, one in says.items() if one.reader}
    return Rows(
        sentences=tuple(
            said for model in tested if (said := _sentence(model, references, readers))
        ),
        grids=tuple(grid for grid in _grids(models, says) if grid.rows),
        profiles=tuple(
            Profile(model, title, drawn)
            for model in tested or models
            for measure, reader in readers.items()
            if (title := reader.name.removeprefix("the "))
            and (drawn := _profile(model, references, measure, reader.what, title))
        ),
        readings=tuple((model, rows) for model in models if (rows := _every(model))),
    )


def _shown(models: Sequence[ModelVerdict]) -> dict[str, Shown]:
    """How each measure that looked is shown, in the order of what they show first. Of one that is
    not installed here, or says nothing of it, the readings alone are listed."""
    looked = {record.measure for model in models for record in model.inside}
    known = looked & set(catalogue.names("measure"))
    found = {name: catalogue.card("measure", name).shows for name in sorted(known)}
    said = {name: one for name, one in found.items() if one}
    return dict(sorted(said.items(), key=lambda pair: [one.place for one in pair[1].tables]))


def figures(rows: Rows) -> dict[str, Svg]:
    """A drawing a model and reader."""
    return {f"{one.title}-{one.model.name}".replace(" ", "-"): one.drawing for one in rows.profiles}


def _found(model: ModelVerdict | None, measure: str) -> Sequence[Reading]:
    for record in model.inside if model else ():
        if record.measure == measure:
            return record.readings
    return ()


def _reading(
    model: ModelVerdict | None, measure: str, what: str, place: str = ""
) -> Reading | None:
    for one in _found(model, measure):
        if one.what == what and one.place == place:
            return one
    return None


def _estimate(reading: Reading | None) -> Estimate:
    return reading.estimate if reading else Estimate(value=None)


# -- in words -------------------------------------------------------------------------------------


def _sentence(
    model: ModelVerdict, references: Mapping[str, ModelVerdict], readers: Mapping[str, Reader]
) -> str:
    """What the readings say of one model against the one that never learned, and no more."""
    never = references.get("oracle")
    apart: list[str] = []
    compared: list[str] = []
    said = Estimate(value=None)
    for measure, reader in readers.items():
        if reader.spoken:
            said = _estimate(_reading(model, measure, reader.spoken))
        here, there = (_estimate(_reading(one, measure, reader.what)) for one in (model, never))
        if here.low is None or there.high is None:
            continue
        compared.append(reader.name)
        if here.low > there.high:
            apart.append(f"{reader.name} reads {shown(here)}, never learned {shown(there)}")
    name = tidy(model.name)
    if not compared:
        return ""
    spoken = f" It says {shown(said)}." if said.value is not None else ""
    if apart:
        return f"{name}: suppressed, not erased: {'; '.join(apart)}.{spoken}"
    both = " nor ".join(compared)
    neither = f"neither {both} reads" if len(compared) > 1 else f"{both} does not read"
    return (
        f"{name}: {neither} more than where the facts were never learned. That is no proof of "
        f"erasure: another reader, or training, may still find them.{spoken}"
    )


# -- in tables ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as it is filled: whose quantity, where it was taken, and how it is headed."""

    measure: str
    column: Column
    what: str
    title: str
    place: str = ""

    def of(self, model: ModelVerdict) -> Reading | None:
        return _reading(model, self.measure, self.what, self.place)

    def known(self, model: ModelVerdict) -> bool:
        return _estimate(self.of(model)).value is not None


def _grids(models: Sequence[ModelVerdict], says: Mapping[str, Shown]) -> list[Grid]:
    """The tables in order; what measures put under one title is one table."""
    columns: dict[str, list[_Column]] = {}
    about: dict[str, list[str]] = {}
    every = [(table, name) for name, one in says.items() for table in one.tables]
    for table, measure in sorted(every, key=lambda pair: pair[0].place):
        for differs in _differing(models, measure, table):
            title = table.title.replace("{}", differs)
            columns.setdefault(title, []).extend(_columns(models, measure, table, differs))
            about.setdefault(title, []).append(table.about)
    return [_grid(models, title, columns[title], " ".join(about[title])) for title in columns]


def _differing(models: Sequence[ModelVerdict], measure: str, table: Table) -> Sequence[str]:
    """What stands for ``{}`` in the names of a table's quantities, in the order of the readings."""
    if not any("{}" in column.what for column in table.columns):
        return ("",)
    patterns = [
        re.compile("(.+)".join(map(re.escape, column.what.split("{}", 1))))
        for column in table.columns
    ]
    whats = [one.what for model in models for one in _found(model, measure)]
    found = (pattern.fullmatch(what) for what in whats for pattern in patterns)
    return tuple(dict.fromkeys(one[1] for one in found if one))


def _columns(
    models: Sequence[ModelVerdict], measure: str, table: Table, differs: str
) -> Iterator[_Column]:
    for column in table.columns:
        what = column.what.replace("{}", differs)
        places = _places(models, measure, what) if table.by_place else ("",)
        for place in places:
            yield _Column(measure, column, what, place or column.title, place)


def _grid(
    models: Sequence[ModelVerdict], title: str, columns: Sequence[_Column], about: str
) -> Grid:
    """Models by columns; columns and rows without any number are left out."""
    kept = [one for one in columns if any(map(one.known, models))]
    grid = Grid(title, [(one.title, one.column.says) for one in kept], about=about)
    for model in models:
        if not any(one.known(model) for one in kept):
            continue
        cells: list[Cell] = []
        for one in kept:
            found = one.of(model)
            where = (found.unit if found else "").partition("accuracy, ")[2]
            tone = "text" if where else ""
            form = one.column.form
            cells.append(cell(_estimate(found), form, grid.notes, extra=where, tone=tone))
        grid.rows.append((model, cells))
    return grid


def _places(models: Sequence[ModelVerdict], measure: str, what: str) -> list[str]:
    names: dict[str, None] = {}
    for model in models:
        for one in _found(model, measure):
            if one.what == what:
                names[one.place] = None
    return list(names)


def _every(model: ModelVerdict) -> tuple[tuple[str, ...], ...]:
    """Measure, quantity, place, value, interval, unit or note; of one model."""
    rows: list[tuple[str, ...]] = []
    for record in model.inside:
        for one in record.readings:
            est = one.estimate
            known = est.low is not None and est.high is not None
            ends = f"[{_short(est.low)}, {_short(est.high)}]" if known else ""
            said = (record.measure, one.what, one.place or "whole", _short(est.value), ends)
            rows.append((*said, est.note or one.unit))
    return tuple(rows)


def _short(raw: float | None) -> str:
    return DASH if raw is None else f"{raw:.3g}".replace("-", "−")


# -- by layer -------------------------------------------------------------------------------------


def _profile(
    model: ModelVerdict, references: Mapping[str, ModelVerdict], measure: str, what: str, title: str
) -> str:
    """Accuracy by layer for one model, the two references beside it; nothing where not taken."""
    lines = [
        (references.get("undefended"), "undefended", "undefended"),
        (references.get("oracle"), "oracle", "never learned"),
        (model, "model", tidy(model.name)),
    ]
    name = tidy(model.name)
    layers = [place for place in _places([model], measure, what) if place]
    if not layers:
        return ""
    left, top, right, bottom = _FIELD
    x = svg.Linear(0.0, max(1.0, len(layers) - 1.0), left + 12, right - 8)
    y = svg.Linear(0.0, 1.0, bottom, top)
    body = list(_frame(layers, x, y))
    labels: list[tuple[float, str, str]] = []
    first = _reading(model, measure, what, layers[0])
    chance = first.chance if first else None
    if chance is not None:
        body.append(svg.line(left, y(chance), right, y(chance), "rule chance"))
        labels.append((y(chance), "chance", "label chance"))
    for subject, kind, word in lines:
        if subject is None or (kind != "model" and subject is model):
            continue
        drawn, end = _line(subject, measure, what, layers, kind, x, y)
        body.append(drawn)
        if end is not None:
            shown = svg.clip(f"{number(end)} {word}", 134, 12.0)
            labels.append((y(end), shown, f"label {kind}"))
    where = svg.spread([wanted for wanted, _, _ in labels], svg.Band(top, bottom, 15.0))
    for (wanted, words, kind), place in zip(labels, where, strict=True):
        if abs(place - wanted) > 1:
            body.append(svg.line(right - 2, wanted, right + 5, place, "leader"))
        body.append(svg.text(right + 7, place + 4, words, kind))
    body.append(svg.text(0, 13, svg.clip(f"{name}: {title}", 440, 12.0), "head"))
    said = f"Accuracy on held-out facts by layer, read by the {title}."
    return svg.document(*_SIZE, f"{title} of {name}, by layer", said, *body)


def _line(
    model: ModelVerdict,
    measure: str,
    what: str,
    layers: Sequence[str],
    kind: str,
    x: svg.Linear,
    y: svg.Linear,
) -> tuple[str, float | None]:
    """A line over the layers with its intervals, and where it ends."""
    points: list[tuple[float, float] | None] = []
    marks: list[str] = []
    last: float | None = None
    for at, place in enumerate(layers):
        est = _estimate(_reading(model, measure, what, place))
        level = est.value
        if level is None:
            points.append(None)
            continue
        last = float(level)
        points.append((x(at), y(last)))
        if kind == "model":
            if est.low is not None and est.high is not None:
                marks.append(svg.line(x(at), y(est.low), x(at), y(est.high), "whisker"))
            said = svg.el("title", svg.escape(f"{place}: {shown(est)}"))
            marks.append(svg.el("circle", said, cx=x(at), cy=y(last), r=3.2, class_="dot model"))
    return svg.polyline(points, f"line {kind}") + "".join(marks), last


def _frame(layers: Sequence[str], x: svg.Linear, y: svg.Linear) -> Sequence[str]:
    left, _, right, bottom = _FIELD
    parts: list[str] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.line(left, y(tick), right, y(tick), "grid" if tick else "axis"))
        parts.append(svg.text(left - 7, y(tick) + 4, f"{tick:g}", "tick", "end"))
    every = max(1, -(-len(layers) // 8))
    for at, place in enumerate(layers):
        parts.append(svg.line(x(at), bottom, x(at), bottom + 4, "axis"))
        if at % every == 0:
            short = place.removeprefix("block ").replace("embedding", "emb.")
            parts.append(svg.text(x(at), bottom + 17, short, "tick", "middle"))
    parts.append(svg.text((left + right) / 2, bottom + 37, "after block", "title", "middle"))
    parts.append(svg.text(6, 30, "accuracy on held-out facts", "title"))
    return parts
