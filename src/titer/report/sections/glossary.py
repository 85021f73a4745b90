"""The words of the page, in one place."""

from __future__ import annotations

from titer.report.glossary import TERMS, Term
from titer.report.section import Section, Table
from titer.verdict.parts import Verdict

__all__ = ["SECTION", "data", "table"]

SECTION = Section(title="Words", after="reproduce", nav="Words", terminal=False)


def data(verdict: Verdict) -> tuple[Term, ...]:
    """Each word with its meaning."""
    del verdict
    return TERMS


def table(rows: tuple[Term, ...]) -> Table:
    """A word a line, for whoever reads an export."""
    lines = tuple((term.word, term.elsewhere, term.means) for term in rows)
    return Table(name="glossary", heads=("word", "elsewhere", "means"), rows=lines)
