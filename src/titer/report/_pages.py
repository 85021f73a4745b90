"""What all pages share: where their templates are, and how they explain a word where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from titer.report.glossary import TERMS, Term, term_of
from titer.report.numbers import interval, number, value

__all__ = ["ANSWERS", "environment", "explaining"]

ANSWERS = "answers.html"
"""The page of what was said, where it lies beside the report."""


def environment() -> Environment:
    """Where the templates of all pages are; every text that enters one is escaped."""
    made = Environment(
        loader=PackageLoader("titer.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"breakable": _breakable, "value": value, "interval": interval}
    made.globals |= {"number": number}
    return made


def explaining() -> Mapping[str, Any]:
    """What the macro ``term`` needs: what a word means, the words asked for so far, which get a
    popover at the end of the page, and the number of each."""
    used: dict[str, Term] = {}

    def asked(name: str) -> Term | None:
        if found := term_of(name):
            used[found.word] = found
        return found

    ids = {term.word: at for at, term in enumerate(TERMS, start=1)}
    return {"term_of": asked, "used": used, "ids": ids}


def _breakable(name: object) -> Markup:
    """A name that may break after its separators, so that a narrow column need not cut a word."""
    pieces = re.split(r"(?<=[-+/_:.])", str(name))
    return Markup("<wbr>").join(pieces)
