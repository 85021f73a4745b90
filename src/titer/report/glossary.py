"""titer's words and the field's beside them: the one glossary of page, export, notebook and docs.

``glossary.md`` beside this file is its source: one row a term, with the heads of tables that name
it. `docs/glossary.md` is written from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from titer.verdict.parts import Word

__all__ = ["OUTCOMES", "ROLES", "SOURCE", "TERMS", "WORDS", "Term", "term_of"]

SOURCE = files("titer.report").joinpath("glossary.md").read_text(encoding="utf-8")
"""The glossary as Markdown: headings, and under each a table."""

_HEAD = "titer says"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word, what it means, what it is called ``elsewhere``, and how heads of tables have it
    (``also``)."""

    word: str
    means: str
    elsewhere: str = ""
    also: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """The meaning, with the field's words behind it."""
        return f"{self.means}. Elsewhere: {self.elsewhere}" if self.elsewhere else self.means


def _read(source: str) -> tuple[Term, ...]:
    found: list[Term] = []
    for line in source.splitlines():
        if not line.startswith("| ") or line.startswith(("| ---", f"| {_HEAD}")):
            continue
        cells = [_plain(one) for one in line.strip("|").split(" | ")]
        word, elsewhere, means, also = ("" if one == "–" else one for one in cells)
        names = tuple(also.split(", ")) if also else ()
        found.append(Term(word=word, means=means, elsewhere=elsewhere, also=names))
    return tuple(found)


def _plain(cell: str) -> str:
    """A cell without Markdown: an asterisk that is escaped stays."""
    return re.sub(r"(\\\*)|[*`]", lambda found: "*" if found[1] else "", cell).strip()


TERMS = _read(SOURCE)


@cache
def _named() -> dict[str, Term]:
    """Each term by what heads call it; a name that two share is the first one's."""
    found: dict[str, Term] = {}
    for term in TERMS:
        for name in (*term.also, term.word, term.word.partition(" (")[0]):
            found.setdefault(name.lower(), term)
    return found


def term_of(title: str) -> Term | None:
    """The term that a head names; None where it names none."""
    return _named().get(title.strip("… ").lower())


def _means(word: str) -> str:
    return _named()[word].means


# A mark beside each colour, so that colour is never the only channel.
OUTCOMES = {
    name: (mark, _means(f"{name} (attack)"))
    for name, mark in {"held": "●", "breached": "✕", "degraded breach": "◐", "bricked": "■"}.items()
}
"""What became of an attack: the mark, and what it means."""

_WORDS: dict[Word, str] = {
    "breached": "✕",
    "degraded": "◐",
    "held": "●",
    "open": "?",
    "withheld": "—",
}
WORDS: dict[Word, tuple[str, str]] = {
    word: (mark, _means(f"{word} (model)")) for word, mark in _WORDS.items()
}
"""What became of a model: the mark, and what the word may claim."""

ROLES = {
    "defended": "defended",
    "control": "known-broken control",
    "oracle": "never learned",
    "undefended": "undefended",
}
"""In the order of every table: what is tested first, the references last."""
