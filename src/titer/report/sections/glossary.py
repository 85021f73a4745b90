"""The words of the page, in one place."""

from __future__ import annotations

from titer.report.glossary import TERMS
from titer.report.section import Section
from titer.verdict.parts import Verdict

__all__ = ["SECTION", "data"]

SECTION = Section(title="Words", after="reproduce", nav="Words")


def data(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """Each word with its meaning."""
    del verdict
    return TERMS
