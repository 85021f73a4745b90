"""The claim sentence of each model. What is common to all models is said once, elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from titer.report.glossary import OUTCOMES
from titer.report.models import in_order, outcome_counts
from titer.report.numbers import DASH, tidy
from titer.report.section import Screen, Section
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Claim", "data", "terminal"]

SECTION = Section(title="What was found", after="strip", nav="Claims")

_GAPS = " Not tested: "


@dataclass(frozen=True, slots=True)
class Claim:
    """``lead`` is the first sentence, ``rest`` what follows, without what is common to all models;
    ``counts`` are outcomes with their marks."""

    model: ModelVerdict
    lead: str
    rest: str
    counts: tuple[tuple[str, str, int], ...]


def data(verdict: Verdict) -> tuple[Claim, ...]:
    """A claim for each model that has one."""
    models = [model for model in in_order(verdict) if model.claim]
    common = _common([model.claim for model in models], verdict.not_tested)
    found: list[Claim] = []
    for model in models:
        # A full stop inside a number or an abbreviation is not followed by blank and capital.
        own = _without(model.claim, common)
        lead, *rest = re.split(r"(?<=[.!?])\s+(?=[A-Z])", own, maxsplit=1)
        counts = tuple(
            (name, OUTCOMES.get(name, (DASH, ""))[0], count)
            for name, count in outcome_counts(model).items()
            if count
        )
        found.append(Claim(model, lead, "".join(rest), counts))
    return tuple(found)


def _common(claims: Sequence[str], gaps: Sequence[str]) -> str:
    """What every claim says first of what was not tested: whole entries, as one text."""
    tails = [claim.rpartition(_GAPS)[2].removesuffix(".") for claim in claims]
    said = ""
    for gap in gaps:
        more = f"{said}, {gap}" if said else gap
        if not all(tail == more or tail.startswith(f"{more}, ") for tail in tails):
            break
        said = more
    return said


def _without(claim: str, common: str) -> str:
    head, sign, tail = claim.rpartition(_GAPS)
    if not sign or not common:
        return claim
    own = tail.removesuffix(".").removeprefix(common).removeprefix(", ")
    return f"{head}{_GAPS}also {own}." if own else head


def terminal(rows: tuple[Claim, ...], screen: Screen) -> Iterator[RenderableType]:
    """The sentences, a paragraph a model."""
    for claim in rows:
        yield Text(tidy(f"{claim.lead} {claim.rest}"))
        yield Text("")
