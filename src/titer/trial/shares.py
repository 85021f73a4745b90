"""Shares of a hazard: nested subsets of what a defender is given, for the in-domain curve.

A share is taken over *whom* the examples are about, never over phrasings: a fact asked in five ways
is one fact. The unit is the entity, where the world does not know it the fact, else the example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.method import seed_for

__all__ = ["check_shares", "size", "take", "units"]


def units(examples: Sequence[Example]) -> tuple[str, ...]:
    """Whom the examples are about, each once, in order of first appearance."""
    return tuple(dict.fromkeys(example.unit for example in examples))


def size(share: float, total: int) -> int:
    """How many of ``total`` units a share is, rounded to the nearest, halves up."""
    return math.floor(share * total + 0.5)


def take(examples: Sequence[Example], share: float, draw: int) -> tuple[Example, ...]:
    """The examples about a share of the units, in their own order.

    The units are put in an order that ``draw`` decides and the first of them are kept, so that of
    one draw every smaller share lies inside every larger one.
    """
    order = list(units(examples))
    Random(seed_for(draw, "share of the hazard")).shuffle(order)
    kept = set(order[: size(share, len(order))])
    return tuple(example for example in examples if example.unit in kept)


def check_shares(shares: Sequence[float], examples: Sequence[Example]) -> None:
    """See that each share is a subset of its own: some of the units, not all, no two alike.

    Raises:
        BadInput: one sentence for each fault.
    """
    total = len(units(examples))
    faults: list[str] = []
    seen: dict[int, float] = {}
    for share in shares:
        if not 0 < share < 1:
            faults.append(f"--share {share:g}: give a share between 0 and 1, as in --share 0.1.")
            continue
        count = size(share, total)
        if not 0 < count < total:
            what = "none" if not count else "all"
            faults.append(f"--share {share:g}: of the defender's {total} entities that is {what}.")
        elif count in seen:
            faults.append(
                f"--share {share:g} and --share {seen[count]:g} are both {count} of the defender's "
                f"{total} entities; give one of them."
            )
        seen.setdefault(count, share)
    if faults:
        raise BadInput(*faults)
