"""A section of the report: one file in ``sections/``, found by listing.

A section module has

* ``SECTION``, its title, the section it comes ``after``, and its name in the navigation;
* ``data(verdict)``, the typed rows that all its forms show; nothing leaves the section out;
* ``figure(rows)``, one drawing, or ``figures(rows)``, several by file name;
* ``table(rows)``, one table or several, for CSV, LaTeX and JSON, and for a terminal;
* ``terminal(rows, screen)``, where a terminal shows something else in the table's place;
* ``latex(rows)``, where a paper wants another shape than the table's;

of which all but the first two may be missing, and a fragment of a template beside it, called like
it, ``NAME.html.j2``. The fragment sees ``rows``, ``verdict`` and ``figures``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.box import ASCII2, SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from titer.core.errors import BadInput
from titer.report import sections
from titer.report.numbers import DASH, tidy
from titer.verdict.parts import Verdict

__all__ = ["Part", "Screen", "Section", "Svg", "Table", "found", "parts"]

Svg = str
"""A drawing as one SVG element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """How a section is headed and where it stands: ``after`` another, by name, or first. One may be
    left out of the ``terminal``, and its tables of a ``paper``."""

    title: str
    after: str = ""
    nav: str = ""
    terminal: bool = True
    paper: bool = True


@dataclass(frozen=True, slots=True)
class Screen:
    """A terminal: so many columns, and ``live`` where somebody sits at it; else it is a file."""

    width: int
    live: bool

    def table(self, **how: Any) -> RichTable:
        """A table for it; without a terminal its rules are plain ASCII."""
        box = SIMPLE_HEAD if self.live else ASCII2
        return RichTable(box=box, pad_edge=False, show_edge=self.live, **how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One number, or one fact, a field; ``name`` is that of the exported file."""

    name: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str | float | bool | None, ...], ...] = field(repr=False)


@dataclass(frozen=True)
class Part:
    """A section with what it has to show of one verdict."""

    name: str
    section: Section
    module: ModuleType
    rows: Any

    @property
    def fragment(self) -> str:
        """Its part of the page as a template; empty where it has none."""
        path = Path(str(self.module.__file__)).with_suffix(".html.j2")
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def figures(self) -> Mapping[str, Svg]:
        """Its drawings by file name."""
        if hasattr(self.module, "figures"):
            return self.module.figures(self.rows)
        if hasattr(self.module, "figure"):
            return {self.name: self.module.figure(self.rows)}
        return {}

    def tables(self) -> Sequence[Table]:
        """Its tables."""
        if not hasattr(self.module, "table"):
            return ()
        made = self.module.table(self.rows)
        return (made,) if isinstance(made, Table) else tuple(made)

    def latex(self) -> Mapping[str, str] | None:
        """Its tables for a paper by name; None where they are the plain ones."""
        if not self.section.paper:
            return {}
        return self.module.latex(self.rows) if hasattr(self.module, "latex") else None

    def terminal(self, screen: Screen) -> Iterable[RenderableType]:
        """What a terminal shows: the tables, unless the section has words of its own."""
        if not self.section.terminal:
            return ()
        if hasattr(self.module, "terminal"):
            return self.module.terminal(self.rows, screen)
        return (_drawn(self.section.title, table, screen) for table in self.tables())


def _drawn(title: str, table: Table, screen: Screen) -> RichTable:
    drawn = screen.table(title=title)
    for head in table.heads:
        drawn.add_column(head, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_field(raw)) for raw in row))
    return drawn


def _field(raw: str | float | bool | None) -> str:
    if raw is None:
        return DASH
    return f"{raw:.4g}" if isinstance(raw, float) else tidy(raw)


def found() -> list[tuple[str, ModuleType]]:
    """Every section by name, in the order of the page."""
    names = sorted(module.name for module in pkgutil.iter_modules(sections.__path__))
    known = {name: importlib.import_module(f"{sections.__name__}.{name}") for name in names}
    return [(name, known[name]) for name in _ordered(known)]


def _ordered(known: Mapping[str, ModuleType]) -> list[str]:
    """Each behind the one that it comes after: of several, one that nothing follows comes first, so
    that a new section stands where it says. One after a section that is not there comes last.

    Raises:
        BadInput: sections come after one another in a circle.
    """
    try:
        TopologicalSorter({name: {one.SECTION.after} for name, one in known.items()}).prepare()
    except CycleError as error:
        way = " after ".join(reversed(error.args[1]))
        raise BadInput(
            f"sections come after one another in a circle: {way}; give one another `after`."
        ) from None
    following: dict[str, list[str]] = {}
    for name, module in known.items():
        following.setdefault(module.SECTION.after, []).append(name)

    def walk(name: str) -> list[str]:
        tails = [[one, *walk(one)] for one in following.get(name, ())]
        return [one for tail in sorted(tails, key=len) for one in tail]

    placed = walk("")
    return [*placed, *(name for name in known if name not in placed)]


def parts(verdict: Verdict) -> list[Part]:
    """The sections that have something to show, in order."""
    made = (Part(name, module.SECTION, module, module.data(verdict)) for name, module in found())
    return [part for part in made if part.rows]
