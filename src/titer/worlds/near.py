"""Rows that say nearly the same: what a near-duplicate is, and how all of them are found.

The rule. Text is compared without case, punctuation, spacing and forms of one character. Two rows
are *near* where they share at least three runs of five words, and these are at least the share
``near`` (0.6) of the runs of the row that has fewer. The runs are those of the prompt, of the
choices, and of the answer where there are no choices; a run that is found in more than 20 different
texts is a turn of phrase and counts for nothing. Two rows are *one prompt* where prompt and choices
are the same and have five words or more, and *one text* where everything is.

A paraphrase that shares few words goes unnoticed, and so does text without spaces between words
unless it is the same throughout.

Source: n-gram overlap as in Brown et al. 2020, arXiv:2005.14165, appendix C (13 words there).
Departs: five words, since prompts are short, and containment in place of a single shared run.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from titer.core.data import Example

__all__ = ["NEAR", "Kind", "Pair", "Place", "in_conflict", "pairs", "words"]

NEAR = 0.6
"""The share of shared runs from which two rows are near-duplicates."""

_RUN = 5
_LEAST = 3
"""Runs that two rows share at least: fewer are chance or a turn of phrase."""
_COMMON = 20
_WORD = re.compile(r"[^\W_]+")

Kind = Literal["text", "prompt", "near"]


@dataclass(frozen=True, slots=True)
class Place:
    """A row and the role it has."""

    role: str
    example: Example


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that say nearly the same, the later one second; ``share`` is 1 but for ``near``."""

    one: Place
    two: Place
    kind: Kind
    share: float = 1.0


def words(text: str) -> list[str]:
    """The words of a text without what is no difference."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def in_conflict(one: str, two: str) -> bool:
    """Whether the same text in two roles makes a result say more than it should.

    It does between two splits of one hazard, between what is judged and what is trained on, and
    between a hazard's training text and benign training text, which pull both ways.
    """
    if one == two:
        return False
    hazards = one.startswith("hazards.") and two.startswith("hazards.")
    if hazards and one.rpartition(".")[0] == two.rpartition(".")[0]:
        return True
    kinds = {_kind(one), _kind(two)}
    return kinds in ({"judged", "harmful"}, {"judged", "benign"}, {"harmful", "benign"})


def _kind(role: str) -> Literal["judged", "harmful", "benign"]:
    if role.startswith("hazards."):
        return "harmful" if role.endswith((".defend", ".attack")) else "judged"
    trained = role == "retain" or role.startswith("environments.") or role.endswith(".train")
    return "benign" if trained else "judged"


@dataclass(slots=True)
class _Index:
    """Texts seen so far: by their whole text, by their prompt, and by their runs of words."""

    numbers: dict[str, int] = field(default_factory=dict[str, int])

    def runs(self, *parts: str) -> frozenset[int]:
        """Runs of words as numbers: the same run has the same number in every text."""
        found: set[int] = set()
        for part in parts:
            own = [self.numbers.setdefault(word, len(self.numbers)) for word in words(part)]
            for at in range(len(own) - _RUN + 1):
                number = 0
                for word in own[at : at + _RUN]:
                    number = number << 24 | word
                found.add(number)
        return frozenset(found)


def pairs(
    roles: Iterable[tuple[str, Sequence[Example]]],
    matters: Callable[[str, str], bool] = in_conflict,
    *,
    near: float = NEAR,
) -> Iterator[Pair]:
    """Every pair of rows that say nearly the same, in two roles for which ``matters`` is true.

    Of rows with one text or one prompt, each is paired with the first of every other role. Time
    and memory grow with the number of words.

    Args:
        roles: Roles by name with their rows, those first that are to come first in a pair.
        matters: Asked of two roles; a role with itself where rows within one are wanted.
        near: The share of shared runs from which rows are near-duplicates.
    """
    places = [Place(role, row) for role, rows in roles for row in rows]
    told: set[tuple[int, int]] = set()
    same: tuple[tuple[Kind, Callable[[Place], str]], ...] = (("text", _text), ("prompt", _prompt))
    for kind, key_of in same:
        first: dict[str, dict[str, int]] = {}
        for at, place in enumerate(places):
            if key := key_of(place):
                seen = first.setdefault(key, {})
                role = place.role
                for other, before in seen.items():
                    if matters(other, role) and (before, at) not in told:
                        told.add((before, at))
                        yield Pair(places[before], place, kind)
                seen.setdefault(role, at)
    for before, at, share in _near(places, matters, near):
        if (before, at) not in told:
            yield Pair(places[before], places[at], "near", share)


def _near(
    places: Sequence[Place], matters: Callable[[str, str], bool], near: float
) -> Iterator[tuple[int, int, float]]:
    index = _Index()
    runs = [index.runs(*_parts(place.example)) for place in places]
    alike: dict[str, int] = {}
    firsts = [alike.setdefault(_text(place), at) for at, place in enumerate(places)]
    count = Counter(
        run for at, found in enumerate(runs) if firsts[at] == at for run in found
    )  # of each text once, so that what is repeated is no turn of phrase
    rare = [frozenset(run for run in found if count[run] <= _COMMON) for found in runs]
    holders: dict[int, list[int]] = {}
    for at, found in enumerate(rare):
        shared = Counter(
            before
            for run in found
            for before in holders.get(run, ())
            if matters(places[before].role, places[at].role)
        )
        for before, number in sorted(shared.items()):
            share = number / min(len(found), len(rare[before]))
            if number >= _LEAST and share >= near:
                yield before, at, share
        for run in found:
            kept = holders.setdefault(run, [])
            # A text that is repeated in a role says nothing that its first row does not.
            if not any(
                firsts[at] == firsts[one] and places[one].role == places[at].role for one in kept
            ):
                kept.append(at)


def _parts(row: Example) -> tuple[str, ...]:
    return (row.prompt, *(row.choices or (row.answer,)))


def _text(place: Place) -> str:
    row = place.example
    return " ".join(words(" ".join((row.prompt, *sorted(row.choices), row.answer))))


def _prompt(place: Place) -> str:
    row = place.example
    found = words(" ".join((row.prompt, *sorted(row.choices))))
    return " ".join(found) if len(found) >= _RUN else ""
