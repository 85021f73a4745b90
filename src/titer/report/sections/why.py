"""Erased, or only suppressed? What was found inside the models, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from titer.core.records import Estimate, Reading
from titer.report import _svg as svg
from titer.report.grid import Cell, Grid, cell
from titer.report.models import in_order
from titer.report.numbers import DASH, Form, number, shown, tidy
from titer.report.section import Section, Svg
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Profile", "Rows", "data", "figures"]

SECTION = Section(title="Erased, or only suppressed?", after="shares", nav="Erased or suppressed")

_SIZE = (460.0, 280.0)
_FIELD = (48.0, 38.0, 318.0, 226.0)  # left, top, right, bottom


@dataclass(frozen=True)
class _Column:
    """A column: the measure, what it read and where, and how it is shown."""

    measure: str
    what: str
    title: str
    says: str
    form: Form = "score"
    place: str = ""


_READ = (
    _Column("logit_lens", "said", "Says it", "choice, as asked"),
    _Column("logit_lens", "lens", "Logit lens", "best inner layer"),
    _Column("linear_probe", "probe", "Linear probe", "best layer"),
    _Column("linear_probe", "control", "Control task", "labels drawn by chance"),
    _Column("linear_probe", "selectivity", "Selectivity", "probe − control", "signed"),
)
_STEP = (
    _Column("curvature", "‖∇R(T)‖", "Gradient norm", "‖∇R(T)‖, nats a unit of weight"),
    _Column("curvature", "slope on V", "Slope on V", "below 0: hidden facts come back", "signed"),
    _Column("curvature", "slope on unrelated text", "Slope, unrelated", "benign text", "signed"),
    _Column("curvature", "uᵀHu on T", "Curvature on T", "uᵀHu", "signed"),
    _Column("curvature", "uᵀHu on V", "Curvature on V", "uᵀHu", "signed"),
    _Column("curvature", "cos(∇R(V), ∇R(T))", "cos(∇R(V), ∇R(T))", "shared way", "signed"),
)
_COSINES = (
    ("cos(τ_u, τ_ft)", "defence and fine-tune"),
    ("cos(τ_u→ft, τ_u)", "below 0: walks back"),
    ("cos(τ_u→ft, τ_ft)", "after and without defence"),
    ("cos(τ_ft, τ_ft′)", "restart baseline"),
)


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
    tables = [
        _table(models, "What can be read of the hidden facts", _READ, _ABOUT_READ),
        _table(models, "The attacker's first step", _STEP, _ABOUT_STEP),
        *_effects(models),
        *_cosines(models),
    ]
    return Rows(
        sentences=tuple(said for model in tested if (said := _sentence(model, references))),
        grids=tuple(grid for grid in tables if grid.rows),
        profiles=tuple(
            Profile(model, title, drawn)
            for model in tested or models
            for measure, what, title in (
                ("logit_lens", "lens", "logit lens"),
                ("linear_probe", "probe", "linear probe"),
            )
            if (drawn := _profile(model, references, measure, what, title))
        ),
        readings=tuple((model, rows) for model in models if (rows := _every(model))),
    )


def figures(rows: Rows) -> dict[str, Svg]:
    """A drawing a model and reader."""
    return {f"{one.title}-{one.model.name}".replace(" ", "-"): one.drawing for one in rows.profiles}


_ABOUT_READ = (
    "Accuracy on the held-out facts V among the choices. Layers are chosen on S, the probe is "
    "fitted on facts of other entities. What is read where the fact was never learned is style, "
    "not knowledge."
)
_ABOUT_STEP = (
    "u is minus the gradient on the attacker's facts T, of length 1; R is the mean negative "
    "log-likelihood of a token."
)


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


def _sentence(model: ModelVerdict, references: Mapping[str, ModelVerdict]) -> str:
    """What the readings say of one model against the one that never learned, and no more."""
    never = references.get("oracle")
    said = _estimate(_reading(model, "logit_lens", "said"))
    apart: list[str] = []
    compared: list[str] = []
    for measure, what, name in (
        ("linear_probe", "probe", "the linear probe"),
        ("logit_lens", "lens", "the logit lens"),
    ):
        here, there = (_estimate(_reading(one, measure, what)) for one in (model, never))
        if here.low is None or there.high is None:
            continue
        compared.append(name)
        if here.low > there.high:
            apart.append(f"{name} reads {shown(here)}, never learned {shown(there)}")
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


def _table(
    models: Sequence[ModelVerdict], title: str, columns: Sequence[_Column], about: str
) -> Grid:
    """Models by columns; columns and rows without any number are left out."""
    kept = [c for c in columns if any(_known(model, c) for model in models)]
    grid = Grid(title, [(c.title, c.says) for c in kept], about=about)
    for model in models:
        if not any(_known(model, column) for column in kept):
            continue
        cells: list[Cell] = []
        for column in kept:
            one = _reading(model, column.measure, column.what, column.place)
            where = (one.unit if one else "").partition("accuracy, ")[2]
            tone = "text" if where else ""
            cells.append(cell(_estimate(one), column.form, grid.notes, extra=where, tone=tone))
        grid.rows.append((model, cells))
    return grid


def _known(model: ModelVerdict, column: _Column) -> bool:
    one = _reading(model, column.measure, column.what, column.place)
    return _estimate(one).value is not None


def _places(models: Sequence[ModelVerdict], measure: str, what: str) -> list[str]:
    names: dict[str, None] = {}
    for model in models:
        for one in _found(model, measure):
            if one.what == what:
                names[one.place] = None
    return list(names)


def _effects(models: Sequence[ModelVerdict]) -> list[Grid]:
    """G-effects, whole and by layer, on hidden facts and on retained text."""
    grids: list[Grid] = []
    for what, title, about in (
        ("hidden", "Where the defence forgot", "Below 0: the risk of the hidden facts V rose."),
        ("retained", "What it cost elsewhere", "Below 0: the risk of retained text rose."),
    ):
        name = f"G-effect, {what}"
        columns = [
            _Column("g_effect", name, place or "Whole", "nats a token", "signed", place)
            for place in _places(models, "g_effect", name)
        ]
        grids.append(_table(models, title, columns, f"G-effect along the defence. {about}"))
    return grids


def _cosines(models: Sequence[ModelVerdict]) -> list[Grid]:
    """The cosines of task vectors for each kind of fine-tune."""
    mixes: dict[str, None] = {}
    for model in models:
        for one in _found(model, "task_vector"):
            head, comma, mix = one.what.rpartition(", ")
            if comma and head.startswith("cos("):
                mixes[mix] = None
    about = "τ_u is the defence's move in weight space, τ_ft and τ_u→ft the fine-tune's without "
    about += "and with it."
    return [
        _table(
            models,
            f"Task vectors, fine-tuned on {mix} data",
            [
                _Column("task_vector", f"{what}, {mix}", what, says, "signed")
                for what, says in _COSINES
            ],
            about,
        )
        for mix in mixes
    ]


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
