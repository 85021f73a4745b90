"""A verdict for a terminal, as text, and as records."""

from __future__ import annotations

import io

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

from titer.report.columns import COLUMNS
from titer.report.models import in_order
from titer.report.section import Screen, parts
from titer.verdict.parts import Verdict

__all__ = ["plain", "records", "terminal"]


def terminal(verdict: Verdict) -> RenderableType:
    """Every section that has something to say in a terminal, for ``Console.print``: the strip
    first, then claims, the four pillars, and what was not tested.

    Without a terminal the rules are plain ASCII and nothing is coloured.
    """
    return _Terminal(verdict)


def plain(verdict: Verdict, width: int = 100) -> str:
    """The same as text, for files and pipes."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    console.print(terminal(verdict))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def records(verdict: Verdict) -> list[dict[str, str | float | None]]:
    """One row a model: its name, role and word, and every number of the four-pillar table with its
    interval in ``NAME_low`` and ``NAME_high``, under the names of the verdict's fields."""
    made: list[dict[str, str | float | None]] = []
    for model in in_order(verdict):
        row: dict[str, str | float | None] = {
            "model": model.name,
            "role": model.role,
            "word": model.word,
        }
        for column in COLUMNS:
            # Of two pillars with a field of one name the second says whose it is.
            name = column.key if column.key != "ratio" else "trainability_ratio"
            est = column.of(model)
            row |= {name: est.value, f"{name}_low": est.low, f"{name}_high": est.high}
        made.append(row)
    return made


class _Terminal:
    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        screen = Screen(options.max_width, console.is_terminal)
        for part in parts(self._verdict):
            yield from part.terminal(screen)
