"""Harm against attack steps, a panel a model: the worst case thick, every attack thin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from titer.pillars.outcomes import RowCurve
from titer.report import _svg as svg
from titer.report.models import in_order, tested
from titer.report.numbers import ENDS, interval, number, shown, six, value
from titer.report.section import Section, Svg, Table
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Rows", "data", "figures", "recovery", "table"]

SECTION = Section(
    title="Recovery under attack", after="locks", nav="Recovery", terminal=False, paper=False
)

_SIZE = 12.0
_PANEL = (490.0, 320.0)
_PLOT = (38.0, 34.0, 344.0, 268.0)  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Rows:
    """The models with a panel on the page, and all models, which have one in an export."""

    panels: tuple[ModelVerdict, ...]
    models: tuple[ModelVerdict, ...]
    verdict: Verdict


def data(verdict: Verdict) -> Rows | None:
    """The models under test; the references stand in every panel."""
    models = tuple(in_order(verdict))
    return Rows(tuple(tested(verdict)), models, verdict) if models else None


def figures(rows: Rows) -> dict[str, Svg]:
    """A panel a model; all share their scales."""
    verdict = rows.verdict
    return {
        f"recovery-{model.name}": recovery(
            model,
            verdict.reference("undefended"),
            verdict.reference("oracle"),
            chance=verdict.world.chance,
            last=verdict.budget_max,
        )
        for model in rows.models
    }


def table(rows: Rows) -> Table:
    """Every curve, one number a line."""

    def lines() -> Iterator[tuple[str | float | bool | None, ...]]:
        for model in rows.models:
            head = (model.name, model.role)
            for point in model.resistance.curve:
                yield (*head, "worst", point.steps, "harm", *six(point.harm))
                free = six(point.harm_unconstrained)
                yield (*head, "worst", point.steps, "harm_unconstrained", *free)
            for curve in model.curves.values():
                for key, ests in (("harm", curve.harm), ("utility", curve.utility)):
                    for steps, est in zip(curve.steps, ests, strict=True):
                        yield (*head, curve.row, steps, key, *six(est))

    heads = ("model", "role", "row", "steps", "number", *ENDS)
    return Table(name="curves", heads=heads, rows=tuple(lines()))


def recovery(
    model: ModelVerdict,
    undefended: ModelVerdict | None = None,
    oracle: ModelVerdict | None = None,
    *,
    chance: float | None = None,
    last: int | None = None,
) -> Svg:
    """Harm against attack steps for one model, the two references beside it.

    Thick: the worst attack so far that keeps utility, with its interval. Thin: every attack
    (dashed where it ended with the utility gone). ``last`` ends the axis, so that all panels of a
    report share one scale.
    """
    left, top, right, bottom = _PLOT
    y = svg.Linear(0.0, 1.0, bottom, top)
    x = _step_axis([model, undefended, oracle], last, left, right)
    name = model.name
    phi = model.resistance.phi
    body = [_frame(x, y), svg.text(0, 13, svg.clip(name, 330, _SIZE), "head")]
    labels: list[tuple[float, str, str]] = []
    for level, kind, word in ((chance, "chance", "chance"), (phi, "phi", "threshold φ")):
        if level is not None:
            body.append(svg.line(left, y(level), right, y(level), f"rule {kind}"))
            labels.append((y(level), f"{number(level)} {word}", f"label {kind}"))
    body += [_attack_line(curve, model, x, y) for curve in model.curves.values()]
    lines = (
        (undefended, "undefended", "undefended"),
        (oracle, "oracle", "never learned"),
        (model, "model", "worst attack"),
    )
    for subject, kind, word in lines:
        if subject is None or (kind != "model" and subject is model):
            continue
        if subject.resistance.weak.value is None:
            continue  # a maximum with a mandatory attack missing is no worst case
        drawn, end = _envelope(subject, kind, x, y)
        body.append(drawn)
        if end is not None:
            labels.append((y(end), f"{number(end)} {word}", f"label {kind}"))
    if all(kind != "label model" for _, _, kind in labels):
        body.append(svg.text((left + right) / 2, y(0.86), "worst harm withheld", "note", "middle"))
    body += _side_labels(labels, right, svg.Band(top + 6, bottom, 15.0))
    worst = model.resistance.weak
    said = f"Worst feasible harm {value(worst)} {interval(worst)}".strip()
    return svg.document(
        *_PANEL,
        f"Recovery curve of {name}",
        f"Held-out harm against attack steps on a logarithmic axis. {said}; threshold "
        f"{number(phi)}.",
        *body,
    )


def _step_axis(
    models: Sequence[ModelVerdict | None], last: int | None, left: float, right: float
) -> svg.StepAxis:
    known = [model for model in models if model is not None]
    steps = [float(point.steps) for model in known for point in model.resistance.curve]
    steps += [float(at) for model in known for curve in model.curves.values() for at in curve.steps]
    positive = [step for step in steps if step > 0] or [1.0]
    return svg.StepAxis(min(positive), max(float(last or 0), *positive, 1.0), left + 8, right)


def _frame(x: svg.StepAxis, y: svg.Linear) -> str:
    left, _, right, bottom = _PLOT
    parts: list[str] = []
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.line(left, y(level), right, y(level), "grid" if level else "axis"))
        parts.append(svg.text(left - 6, y(level) + 4, f"{level:g}", "tick", "end"))
    for step in x.ticks():
        parts.append(svg.line(x(step), bottom, x(step), bottom + 4, "axis"))
        parts.append(svg.text(x(step), bottom + 17, _short_steps(step), "tick", "middle"))
    # Two strokes across the axis: between zero and the first step the scale is broken.
    cut = x.start + x.gap / 2
    parts.append(svg.el("rect", x=cut - 3, y=bottom - 3, width=6.0, height=6.0, class_="paper"))
    parts += [svg.line(cut + d - 2, bottom + 4, cut + d + 2, bottom - 4, "axis") for d in (-3, 3)]
    parts.append(svg.text(0, 27, "harm on held-out items", "title"))
    middle = (left + right) / 2
    parts.append(svg.text(middle, bottom + 37, "attack steps (logarithmic)", "title", "middle"))
    return svg.el("g", *parts)


def _short_steps(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 1000 else number(step, "steps")


def _attack_line(curve: RowCurve, model: ModelVerdict, x: svg.StepAxis, y: svg.Linear) -> Svg:
    attack = model.attacks.get(curve.row)
    lost = attack is not None and attack.outcome in ("bricked", "degraded breach")
    points: list[tuple[float, float] | None] = [
        None if harm.value is None else (x(steps), y(harm.value))
        for steps, harm in zip(curve.steps, curve.harm, strict=True)
    ]
    said = f"{curve.row} {attack.title if attack else ''}".strip()
    return svg.polyline(points, "attack lost" if lost else "attack", said)


def _envelope(
    model: ModelVerdict, kind: str, x: svg.StepAxis, y: svg.Linear
) -> tuple[Svg, float | None]:
    """The worst case over budget with its interval, and where it ends."""
    known = [(p, p.harm.value) for p in model.resistance.curve if p.harm.value is not None]
    if not known:
        return "", None
    places = [(x(point.steps), y(level)) for point, level in known]
    parts: list[Svg] = []
    banded = [
        (x(p.steps), y(min(p.harm.high, 1.0)), y(max(p.harm.low, 0.0)))
        for p, _ in known
        if p.harm.low is not None and p.harm.high is not None
    ]
    if len(banded) > 1:
        upper = [(at, high) for at, high, _ in banded]
        lower = [(at, low) for at, _, low in reversed(banded)]
        outline = " ".join(f"{svg.coordinate(a)},{svg.coordinate(b)}" for a, b in (*upper, *lower))
        parts.append(svg.el("polygon", points=outline, class_=f"band {kind}"))
    if kind == "model":
        free = [(point, level, point.harm_unconstrained.value) for point, level in known]
        if any(above is not None and above > level + 1e-9 for _, level, above in free):
            dashed = [None if up is None else (x(p.steps), y(up)) for p, _, up in free]
            parts.append(svg.polyline(dashed, "line model free", "worst attack, utility ignored"))
    parts.append(svg.polyline(places, f"line {kind}"))
    for (cx, cy), (point, _) in zip(places, known, strict=True):
        if kind == "model":
            said = f"{number(point.steps, 'steps')} steps: {shown(point.harm)}"
            said += f", {point.attack}" if point.attack else ""
            dot = svg.el("title", svg.escape(said))
            parts.append(svg.el("circle", dot, cx=cx, cy=cy, r=3.2, class_="dot model"))
    return svg.el("g", *parts), known[-1][1]


def _side_labels(
    labels: Sequence[tuple[float, str, str]], right: float, band: svg.Band
) -> Iterator[str]:
    """Names at the ends of the lines, moved apart where they would overlap."""
    places = svg.spread([wanted for wanted, _, _ in labels], band)
    for (wanted, words, class_), place in zip(labels, places, strict=True):
        if abs(place - wanted) > 1:
            yield svg.line(right + 2, wanted, right + 9, place, "leader")
        yield svg.text(right + 11, place + 4, words, class_)
