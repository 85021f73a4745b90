"""How far two raters agree, with the intervals and tests that go with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Agreement", "agreement", "mcnemar", "wilson"]


@dataclass(frozen=True)
class Agreement:
    """How far two raters agree on a yes or no about ``n`` answers.

    ``accuracy`` is the share of equal verdicts, in [0, 1], with ``low`` and ``high`` its Wilson
    95 % interval; ``kappa`` is Cohen's, in [-1, 1], and ``kappa_low`` and ``kappa_high`` what it
    is at the ends of that interval, None where both raters say one thing alone. ``confusion``
    counts (people, judge) as ``both``, ``people_only``, ``judge_only`` and ``neither`` saying yes.
    """

    n: int
    accuracy: float
    low: float
    high: float
    kappa: float
    kappa_low: float | None
    kappa_high: float | None
    confusion: dict[str, int]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % interval of a proportion of ``n`` answers (Wilson 1927)."""
    from scipy.stats import binomtest

    ends = binomtest(successes, n).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def agreement(people: Sequence[bool], judged: Sequence[bool]) -> Agreement:
    """Agreement of ``judged`` with ``people``; True means yes.

    Cohen's kappa is 1 when the raters agree everywhere, even if only one class occurs (where the
    textbook formula divides by zero). Its interval takes agreement by chance as known, as Cohen
    (1960) does; departs: from Wilson's interval of the agreement, which holds at both ends too.
    Raises ``ValueError`` for unequal or empty sequences.
    """
    n = len(people)
    if n != len(judged) or n == 0:
        raise ValueError(f"agreement needs two sequences of one length, got {n} and {len(judged)}")
    pairs = list(zip(people, judged, strict=True))
    confusion = {
        "both": pairs.count((True, True)),
        "people_only": pairs.count((True, False)),
        "judge_only": pairs.count((False, True)),
        "neither": pairs.count((False, False)),
    }
    same = confusion["both"] + confusion["neither"]
    yes, said = sum(people), sum(judged)
    chance = (yes * said + (n - yes) * (n - said)) / (n * n)
    ends = wilson(same, n)
    kappa = 1.0 if same == n else (same / n - chance) / (1 - chance)
    bounds = [None if chance == 1 else (end - chance) / (1 - chance) for end in ends]
    return Agreement(n, same / n, *ends, kappa, bounds[0], bounds[1], confusion)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test (1947) that two raters are right as often.

    ``first`` and ``second`` say of each answer whether that rater was right. Raises ``ValueError``
    when they differ in length.
    """
    pairs = list(zip(first, second, strict=True))
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    split = gained + lost
    tail = sum(math.comb(split, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**split)
