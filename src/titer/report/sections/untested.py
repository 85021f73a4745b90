"""What the study leaves out, once for all models."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from titer.report.numbers import tidy
from titer.report.section import Screen, Section
from titer.verdict.parts import Verdict

__all__ = ["SECTION", "data", "terminal"]

SECTION = Section(title="What was not tested", after="games", nav="Not tested")


def data(verdict: Verdict) -> tuple[str, ...]:
    """The gaps; where none is named, that this is no claim that there is none."""
    none = "The study names no gap. That is not a claim that there is none"
    return tuple(map(tidy, verdict.not_tested)) or (none,)


def terminal(rows: tuple[str, ...], screen: Screen) -> Iterator[RenderableType]:
    """One line."""
    yield Text(f"Not tested: {'; '.join(rows)}.")
