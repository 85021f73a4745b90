"""A table of the page: models by numbers, each with its interval, its remarks and its footnote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from titer.report.models import in_order
from titer.report.numbers import Form, Number, interval, tidy, value
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["Cell", "Grid", "Notes", "cell", "fill"]


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
    rows: list[tuple[ModelVerdict, list[Cell]]] = field(
        default_factory=list[tuple[ModelVerdict, list[Cell]]]
    )
    groups: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    notes: Notes = field(default_factory=Notes)
    about: str = ""


def cell(
    est: Number,
    form: Form,
    notes: Notes,
    *,
    extra: str = "",
    tone: str = "",
    first: bool = False,
    note: str = "",
) -> Cell:
    """An estimate as a cell; its note, or the one given, becomes a footnote and a hint."""
    note = tidy(note or est.note)
    hint = "; ".join(part for part in (f"n = {est.n}" if est.n else "", note) if part)
    return Cell(
        value=value(est, form),
        interval=interval(est, form),
        extra=extra,
        tone=tone,
        mark=notes.mark(note),
        hint=hint,
        raw=est.value,
        first=first,
    )


def fill(
    verdict: Verdict, grid: Grid, names: Iterable[str], make: Callable[[ModelVerdict, str], Cell]
) -> Grid:
    """The grid with a row a model and a cell a name."""
    columns: Sequence[str] = list(names)
    for model in in_order(verdict):
        grid.rows.append((model, [make(model, name) for name in columns]))
    return grid
