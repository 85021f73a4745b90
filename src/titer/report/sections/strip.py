"""One line a model: what became of it, and the seven numbers that say how badly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from titer.core.records import Estimate
from titer.report.glossary import ROLES, WORDS
from titer.report.models import in_order
from titer.report.numbers import apart, interval, number, shown, tidy, value
from titer.report.section import Screen, Section
from titer.verdict.parts import Verdict, Word

__all__ = ["HEADS", "SECTION", "Line", "Strip", "data", "terminal"]

SECTION = Section(title="At a glance", nav="At a glance")

BACK, AGAIN = "Came back", "Regained"
"""What came back of what was hidden; and where no study could know that, of the fall in harm."""

HEADS = (
    "Model",
    "Verdict",
    "Harm before → worst",
    "Threshold φ",
    BACK,
    "Utility (points)",
    "Attacks (valid of planned)",
)
_BACK = HEADS.index(BACK)
_WIDE = 120
"""Columns from which a terminal shows the table."""
_STYLES = {"breached": "bold red", "degraded": "bold yellow", "held": "bold green"}


@dataclass(frozen=True, slots=True)
class Line:
    """One model in one line. ``worst_shown`` and ``phi_shown`` have the decimals that tell them
    apart."""

    name: str
    role: str
    word: Word
    before: Estimate
    worst: Estimate
    worst_shown: str
    phi_shown: str
    came_back: Estimate
    utility: Estimate
    valid: int
    planned: int

    @property
    def rise(self) -> str:
        """``0.34 → 0.77 [0.73, 1.00]``."""
        return f"{value(self.before)} → {self.worst_shown} {interval(self.worst)}".strip()

    @property
    def utility_shown(self) -> str:
        """The change of utility in points, with its interval."""
        return shown(self.utility, "points")

    @property
    def back_shown(self) -> str:
        """The share that came back."""
        return shown(self.came_back)


@dataclass(frozen=True, slots=True)
class Strip:
    """The lines, and what each word among them may claim."""

    lines: tuple[Line, ...]
    legend: tuple[tuple[Word, str, str], ...]
    heads: tuple[str, ...] = HEADS


def data(verdict: Verdict) -> Strip | None:
    """A line a model, the defended first and the references last."""
    lines: list[Line] = []
    known = any(model.erasure.rtt.value is not None for model in verdict)
    instead = not known and any(model.erasure.regained.value is not None for model in verdict)
    for model in in_order(verdict):
        weak = model.resistance.weak
        worst, phi = apart(weak.value, model.resistance.phi)
        lines.append(
            Line(
                name=tidy(model.name),
                role=ROLES[model.role],
                word=model.word,
                before=model.resistance.baseline_harm,
                worst=weak,
                worst_shown=f"≥\u202f{worst}" if weak.censored else worst,
                phi_shown=phi,
                came_back=model.erasure.regained if instead else model.erasure.rtt,
                utility=model.stability.worst_delta,
                valid=model.valid,
                planned=len(verdict.suite.rows),
            )
        )
    used = {line.word for line in lines}
    narrow = "" if verdict.suite.certifies else "; this suite is too narrow to clear a model"
    legend: list[tuple[Word, str, str]] = [
        (word, mark, says + (narrow if word == "open" else ""))
        for word, (mark, says) in WORDS.items()
        if word in used
    ]
    heads = tuple(AGAIN if instead and head == BACK else head for head in HEADS)
    return Strip(tuple(lines), tuple(legend), heads) if lines else None


def terminal(rows: Strip, screen: Screen) -> Iterator[RenderableType]:
    """A table where it fits, and else two lines a model."""
    if screen.width >= _WIDE:
        yield _wide(rows, screen)
    else:
        for line in rows.lines:
            head = Text(f"{line.name} ")
            head.append(line.word.upper(), style=_STYLES.get(line.word, "bold"))
            head.append(f" ({line.role})", style="dim")
            yield head
            yield Text(f"  harm {line.rise}, threshold {line.phi_shown}")
            yield Text(
                f"  {rows.heads[_BACK].lower()} {line.back_shown}, utility "
                f"{line.utility_shown} points, attacks {line.valid} of {line.planned}"
            )
    for word, mark, says in rows.legend:
        yield Text(f"{mark} {word}: {says}.", style="dim")
    yield Text("")


def _wide(rows: Strip, screen: Screen) -> RichTable:
    table = screen.table()
    for head in (title.partition(" (")[0] for title in rows.heads):
        table.add_column(head, overflow="fold")
    for role, lines in groupby(rows.lines, key=lambda line: line.role):
        del role
        for line in lines:
            table.add_row(
                Text(line.name),
                Text(line.word.upper(), style=_STYLES.get(line.word, "bold")),
                Text(line.rise),
                Text(line.phi_shown),
                Text(line.back_shown),
                Text(line.utility_shown),
                Text(f"{number(line.valid, 'steps')} of {line.planned}"),
            )
        table.add_section()
    return table
