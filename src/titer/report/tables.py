"""Numbers as people read them, and the four-pillar table for a terminal.

A missing number is an em dash, a lower bound carries ``≥``, minus is a minus sign. The columns of
the four-pillar table are declared once here; the page and the terminal both read them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from rich.box import ASCII2, SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from titer.report._glossary import OUTCOMES

__all__ = [
    "COLUMNS",
    "DASH",
    "PILLARS",
    "Column",
    "Form",
    "interval",
    "lm_eval_name",
    "look",
    "number",
    "plain",
    "share_name",
    "terminal",
    "tidy",
    "value",
]

Form = Literal["score", "signed", "points", "ratio", "steps", "percent"]
Verdict = Mapping[str, Any]

DASH = "—"
_MINUS = "−"


@dataclass(frozen=True, slots=True)
class Column:
    """One number of the four-pillar table: where it is, how it is called and how it is written."""

    pillar: str
    key: str
    title: str
    form: Form
    says: str


PILLARS = {
    "resistance": "Resistance",
    "erasure": "Erasure",
    "stability": "Stability",
    "generalisation": "Generalisation",
    "trainability": "Trainability",
}
COLUMNS = (
    Column("resistance", "baseline_harm", "Harm before", "score", "before any attack"),
    Column("resistance", "weak", "Worst harm", "score", "W(B): worst attack that keeps utility"),
    Column("resistance", "weak_unconstrained", "… any utility", "score", "utility ignored"),
    Column("resistance", "work_factor_min", "Work factor", "ratio", "steps against undefended"),
    Column("resistance", "r_star", "R*", "score", "0 undefended, 1 never learned"),
    Column("erasure", "rtt", "Came back", "score", "of what was hidden, from unrelated facts"),
    Column("stability", "worst_delta", "Utility", "points", "worst suite, in points"),
    Column("stability", "over_refusal", "Over-refusal", "percent", "benign requests refused"),
    Column("generalisation", "in_domain", "In domain", "score", "R* on the domain immunised"),
    Column("generalisation", "off_diagonal_min", "Across", "score", "worst R* on other domains"),
    Column("trainability", "ratio", "Benign steps", "ratio", "to learn a task, against undefended"),
)


def _signed(text: str, sign: bool) -> str:
    """A real minus, no minus on zero, and a plus where asked for."""
    bare = text.lstrip("-")
    if not any(digit in "123456789" for digit in bare):
        return bare
    if text.startswith("-"):
        return _MINUS + bare
    return "+" + bare if sign else bare


def number(raw: float | None, form: Form = "score", like: float | None = None) -> str:
    """One number without its interval: ``0.61``, ``−0.4``, ``8.0×``, ``3,000``, ``5.2 %``.

    ``score``: two decimals. ``signed``: the same with a sign. ``points``: a share in percentage
    points, with a sign. ``ratio``: two decimals below 2, one below 100. ``percent``: a share.
    ``like`` is a number whose precision to keep: the ends of an interval follow its value.
    """
    if raw is None or raw != raw:
        return DASH
    if abs(raw) == float("inf"):
        return "∞" if raw > 0 else _MINUS + "∞"
    if form == "points":
        return _signed(f"{100 * raw:.1f}", sign=True)
    if form == "ratio":
        size = abs(raw if like is None else like)
        places = 2 if size < 1.995 else 1 if size < 99.95 else 0
        return _signed(f"{raw:,.{places}f}", sign=False) + "×"
    if form == "steps":
        size = raw if like is None else like
        whole = abs(size - round(size)) < 0.05 or abs(size) >= 100
        return _signed(f"{raw:,.0f}" if whole else f"{raw:.1f}", sign=False)
    if form == "percent":
        share = 100 * raw
        exact = share in (0.0, 100.0)
        return _signed(f"{share:.0f}" if exact else f"{share:.1f}", sign=False) + "\u202f%"
    return _signed(f"{raw:.2f}", sign=form == "signed")


def look(content: object, *path: str) -> Mapping[str, Any]:
    """The mapping at ``path``, or an empty one: a part that was not computed is not an error."""
    for step in path:
        content = cast(Verdict, content).get(step) if isinstance(content, Mapping) else None
    return cast(Verdict, content) if isinstance(content, Mapping) else {}


def value(est: Mapping[str, Any], form: Form = "score") -> str:
    """The value alone; a lower bound carries ``≥``, a missing one is a dash."""
    text = number(est.get("value"), form)
    return f"≥\u202f{text}" if est.get("censored") and text != DASH else text


def interval(est: Mapping[str, Any], form: Form = "score") -> str:
    """``[low, high]``, or nothing where there is none. An open end of a lower bound is ``∞``."""
    low, high = est.get("low"), est.get("high")
    if est.get("value") is None or (low is None and high is None):
        return ""
    unit = "×" if form == "ratio" else "\u202f%" if form == "percent" else ""
    ends = [number(end, form, est["value"]).removesuffix(unit) for end in (low, high)]
    if high is None and est.get("censored"):
        ends[1] = "∞"
    return f"[{ends[0]}, {ends[1]}]"


def tidy(text: object) -> str:
    """One line without control characters: names come from outside and reach a terminal."""
    kept = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(kept.split())


def outcome(attack: Verdict) -> str:
    """The outcome that counts, or nothing where there is none.

    A breach by one seed is a breach even where another seed failed; but what is failed or suspect
    was never survived, and a void attack says nothing at all.
    """
    name = str(attack.get("outcome") or "")
    kind = str(attack.get("validity") or "valid").split(":")[0]
    survived = name in ("held", "bricked") and kind == "failed"
    unsure = name == "held" and kind == "suspect"
    return "" if name not in OUTCOMES or kind == "void" or survived or unsure else name


def outcome_counts(model: Verdict) -> dict[str, int]:
    """How many attacks ended in each outcome; those without one count as ``no result``."""
    counts = dict.fromkeys((*OUTCOMES, "no result"), 0)
    for attack in cast(Sequence[Verdict], model.get("attacks") or ()):
        counts[outcome(attack) or "no result"] += 1
    return counts


def terminal(verdict: Verdict) -> RenderableType:
    """Claims, the four-pillar table, flags and what was not tested, for ``Console.print``.

    Models are columns, as many side by side as the terminal is wide. Without a terminal the rules
    are plain ASCII and nothing is coloured.
    """
    return _Terminal(verdict)


def plain(verdict: Verdict, width: int = 100) -> str:
    """The same as text, for files and pipes."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    console.print(terminal(verdict))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


class _Terminal:
    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        verdict = self._verdict
        models = cast(Sequence[Verdict], verdict.get("models") or ())
        for model in models:
            if model.get("claim"):
                yield Text(tidy(model["claim"]))
                yield Text("")
        label, cell = 26, 21
        side = max(1, (options.max_width - label) // cell)
        for first in range(0, len(models), side):
            yield _pillar_table(models[first : first + side], live=console.is_terminal)
        yield Group(*_remarks(verdict, models))


def _pillar_table(models: Sequence[Verdict], *, live: bool) -> Table:
    table = Table(box=SIMPLE_HEAD if live else ASCII2, pad_edge=False, show_edge=live)
    table.add_column("", no_wrap=True, style="dim" if live else "")
    for model in models:
        head = Text(tidy(model.get("name", "")), overflow="fold")
        head.append(f"\n{tidy(model.get('role', ''))}", style="dim")
        table.add_column(head, justify="right", max_width=24)
    for pillar, title in PILLARS.items():
        table.add_section()
        columns = [column for column in COLUMNS if column.pillar == pillar]
        table.add_row(Text(title, style="bold"), *([""] * len(models)))
        for column in columns:
            unit = " (points)" if column.form == "points" else ""
            cells = [_cell(model, column) for model in models]
            table.add_row(f"  {column.title}{unit}", *cells)
        if pillar == "resistance":
            table.add_row("  Threshold φ", *(_threshold(model) for model in models))
            words = (re.split("[:;,]", strong(model))[0] for model in models)
            table.add_row("  Strong resistance", *words)
    table.add_section()
    table.add_row(Text("Outcomes", style="bold"), *([""] * len(models)))
    for name, (glyph, _) in {**OUTCOMES, "no result": (DASH, "")}.items():
        counts = [outcome_counts(model)[name] for model in models]
        table.add_row(f"  {glyph} {name}", *(str(count) for count in counts))
    return table


def _cell(model: Verdict, column: Column) -> Text:
    est = look(model, "pillars", column.pillar, column.key)
    text = Text(value(est, column.form), style="bold")
    return text.append(f" {interval(est, column.form)}".rstrip(), style="not bold dim")


def _threshold(model: Verdict) -> Text:
    resistance = look(model, "pillars", "resistance")
    passes = resistance.get("passes")
    word = "" if passes is None else " kept" if passes else " exceeded"
    return Text(number(resistance.get("phi")) + word)


def strong(model: Verdict) -> str:
    """What the verdict says of strong resistance, never more than its first clause claims."""
    return tidy(look(model, "pillars", "resistance").get("strong") or "not established")


def _remarks(verdict: Verdict, models: Sequence[Verdict]) -> Iterator[Text]:
    for model in models:
        name = tidy(model.get("name", ""))
        if model.get("withheld"):
            yield Text(f"withheld: {name}: {tidy(model['withheld'])}", style="yellow")
        for flag in cast(Sequence[object], model.get("flags") or ()):
            yield Text(f"flag: {name}: {tidy(flag)}")
    yield from _shares(models)
    yield from _lm_eval(cast(Sequence[Verdict], verdict.get("lm_eval") or ()))
    yield from _battery(look(verdict, "battery"))
    missing = [tidy(item) for item in cast(Sequence[object], verdict.get("not_tested") or ())]
    if missing:
        yield Text("Not tested: " + "; ".join(missing) + ".")


def _battery(found: Verdict) -> Iterator[Text]:
    """The controls that a suite of locks must break, and whether it did."""
    for one in cast(Sequence[Verdict], found.get("controls") or ()):
        told = f"broken by {one['by']}" if one.get("broken") else f"NOT broken: {one.get('why')}"
        rho = f", {number(one['rho'], 'ratio')} the steps" if one.get("broken") else ""
        yield Text(f"Control: {tidy(one.get('name'))}: {tidy(told)}{rho}.")
    if found and not found.get("valid"):
        yield Text(f"SUITE INVALID: {tidy(found.get('why'))}. No score counts.", style="red")


def share_name(point: Verdict) -> str:
    """``10 %``: how much of the hazard a defender had."""
    return f"{100 * float(point.get('share') or 0.0):g}\u202f%"


def _shares(models: Sequence[Verdict]) -> Iterator[Text]:
    """The in-domain curves, a line a model; one line says so where none was measured."""
    curves = {
        tidy(model.get("name", "")): cast(
            Sequence[Verdict], look(model, "pillars", "generalisation").get("curve") or ()
        )
        for model in models
    }
    for name, curve in curves.items():
        told = (
            f"{value(look(point, 'r_star'))} {interval(look(point, 'r_star'))}".strip()
            + f" with {share_name(point)} of the hazard ({point['entities']} of {point['total']})"
            for point in curve
        )
        if curve:
            yield Text(f"In-domain R*: {name}: {'; '.join(told)}.")
    if models and not any(curves.values()):
        yield Text("In-domain R* by the defender's share of the hazard: not measured.")


def lm_eval_name(one: Verdict) -> str:
    """``gsm8k exact_match (strict-match)``; a filter that does nothing goes without saying."""
    name = f"{one.get('task')} {one.get('metric')}"
    return tidy(name if one.get("filter") in ("", "none") else f"{name} ({one.get('filter')})")


def _lm_eval(shown: Sequence[Verdict]) -> Iterator[Text]:
    """Utility that was imported, a line a number."""
    for one in shown:
        change, score = look(one, "change"), look(one, "score")
        told = f"{value(score)} {interval(score)}".strip()
        if change.get("value") is not None:
            told += f", {value(change, 'signed')} {interval(change, 'signed')} from undefended"
        told += f" ({tidy(change['note'])})" if change.get("note") else ""
        yield Text(f"lm-eval: {tidy(one.get('model'))}: {lm_eval_name(one)}: {told}.")
