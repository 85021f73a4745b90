"""Statistics over adversaries and over models: what a table of many numbers may say.

Axes: ``K`` adversaries or models, ``N`` values, ``D+1`` draws of a bootstrap, the first of which is
the data. Draws come from :func:`titer.evidence.resample.resample`, so they are paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from titer.core import Estimate
from titer.core.protocol import LEVEL
from titer.core.units import Harm, Part
from titer.evidence.resample import DIGITS, FloatArray, missing, summarise

__all__ = [
    "LEVELS",
    "Across",
    "ProfilePoint",
    "Unrecovered",
    "corrected_maximum",
    "holm",
    "interquartile_mean",
    "kaplan_meier",
    "kendall",
    "minimum_detectable",
    "performance_profile",
    "rank_intervals",
    "two_sided",
    "worst_mean",
]

WORST = 5
POWER = 0.80


LEVELS = tuple(round(0.1 * k, 1) for k in range(10))
"""Levels of resistance at which the profile is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePoint:
    """The ``share`` of (adversary, seed) pairs that were resisted by more than ``resistance``."""

    resistance: Part
    share: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecovered:
    """The ``share`` of adversaries that had not reached φ by so many ``steps``, with Greenwood's
    standard ``error``."""

    steps: float
    share: Part
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """One model over all adversaries, harm in [0, 1]: the worst corrected for its choice, the mean
    of the five worst, the interquartile mean, the profile of resistance, and the share of
    adversaries that had not recovered the hazard by steps."""

    worst_corrected: Harm
    worst_five: Harm
    interquartile_mean: Harm
    profile: tuple[ProfilePoint, ...] = ()
    unrecovered: tuple[Unrecovered, ...] = ()


def interquartile_mean(values: ArrayLike) -> FloatArray:
    """The mean of the middle half along axis 0: a quarter, rounded down, is cut from either end.

    Source: Agarwal et al. 2021, arXiv:2108.13264.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=0)
    cut = len(ordered) // 4
    return np.asarray(ordered[cut : len(ordered) - cut].mean(axis=0))


def worst_mean(values: ArrayLike, count: int = WORST) -> FloatArray:
    """The mean of the ``count`` largest along axis 0, of all where there are fewer."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=0)
    return np.asarray(ordered[-count:].mean(axis=0))


def performance_profile(values: ArrayLike, levels: Sequence[float]) -> tuple[float, ...]:
    """The share of values strictly above each level: resistance of (adversary, seed) pairs, say.

    Source: Agarwal et al. 2021, arXiv:2108.13264, there called a score distribution.
    """
    table = np.asarray(values, dtype=np.float64).ravel()
    if not table.size:
        raise ValueError("performance_profile: no values.")
    return tuple(float((table > level).mean()) for level in levels)


def corrected_maximum(draws_KD: FloatArray, *, n: int, shares: int = 0) -> Estimate:
    """The largest of K means with the winner's curse taken off.

    The largest of noisy numbers is too large by what chance adds, which the draws show again: the
    maximum of a draw exceeds that of the data by about as much as the latter exceeds the truth. The
    value is lowered by that once, in the median, since few seeds have heavy tails. The interval is
    lowered by it twice, in the mean, as the draws hold it once already. It is a correction to first
    order: of ten equal adversaries it takes off a half, of one that stands out next to nothing.
    """
    tops = draws_KD.max(axis=0)
    if len(draws_KD) < 2 or len(tops) < 2:
        return summarise(tops, n=n, shares=shares, note="nothing to choose from")
    value = tops[0] - max(0.0, float(np.median(tops[1:]) - tops[0]))
    lowered = np.append(value, tops[1:] - 2 * max(0.0, float(tops[1:].mean() - tops[0])))
    lowered = np.clip(lowered, 0, 1) if shares else lowered
    note = f"lowered by {tops[0] - value:.3f}: the largest of {len(draws_KD)}"
    return summarise(lowered, n=n, shares=shares, note=note)


def kaplan_meier(
    times: Sequence[float], seen: Sequence[bool]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Kaplan and Meier's estimate of the share of runs not yet recovered.

    ``seen[i]`` is False for a run that ended at ``times[i]`` without the event.

    Returns:
        The times of events upwards, the share left after each, and Greenwood's standard error.

    Raises:
        ValueError: no times, or lengths differ.
    """
    if not times or len(times) != len(seen):
        raise ValueError(f"kaplan_meier: {len(times)} times, {len(seen)} marks.")
    clock, event = np.asarray(times, dtype=np.float64), np.asarray(seen, dtype=np.bool_)
    ticks = np.unique(clock[event])
    at_risk = (clock[None, :] >= ticks[:, None]).sum(axis=1)
    gone = ((clock[None, :] == ticks[:, None]) & event[None, :]).sum(axis=1)
    left = np.asarray(np.cumprod(1 - gone / np.maximum(at_risk, 1)), dtype=np.float64)
    free = at_risk - gone
    terms = np.where(free > 0, gone / (at_risk * np.maximum(free, 1)), 0.0)
    error = np.asarray(left * np.sqrt(np.cumsum(terms)), dtype=np.float64)
    return ticks, left, error


def two_sided(draws: FloatArray) -> float:
    """The p-value of a difference of nothing, from its draws (D+1,): twice the smaller tail.

    With draws over seeds alone it is that of Student's paired test. Never less than 1 / (D + 1).
    """
    table = np.asarray(draws, dtype=np.float64).round(DIGITS)
    drawn = table[1:][np.isfinite(table[1:])]
    if not drawn.size:
        return 1.0
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (drawn.size + 1))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for their number, in the order given. Source: Holm 1979."""
    ordered = sorted(values, key=lambda name: values[name])
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, name in enumerate(ordered):
        floor = max(floor, min(1.0, (len(ordered) - rank) * values[name]))
        adjusted[name] = floor
    return {name: adjusted[name] for name in values}


def rank_intervals(
    draws: Mapping[str, FloatArray], level: float = LEVEL
) -> dict[str, tuple[int, int]]:
    """The ranks, 1 the lowest value, that each of K names cannot be told out of.

    A name's first rank is one more than the number of names surely below it, its last the number of
    names not surely above it; sure is a difference from zero by Holm's test over all pairs, at
    ``level``. So all intervals hold together, and one rank alone means: different from every other.
    """
    names = list(draws)
    pairs = {f"{i} {j}": (i, j) for i, j in combinations(range(len(names)), 2)}
    gaps = {key: draws[names[i]] - draws[names[j]] for key, (i, j) in pairs.items()}
    sure = holm({key: two_sided(gap) for key, gap in gaps.items()})
    below = [0] * len(names)
    above = [0] * len(names)
    for key, (i, j) in pairs.items():
        if sure[key] <= 1 - level:
            low, high = (i, j) if gaps[key][0] < 0 else (j, i)
            below[high] += 1
            above[low] += 1
    return {name: (1 + below[k], len(names) - above[k]) for k, name in enumerate(names)}


def kendall(draws: Mapping[str, FloatArray], looked_at: int = 500) -> Estimate:
    """How firm a ranking is: Kendall's tau-b between the data's order and that of a draw, averaged
    over draws, with the interval of the draws. 1 is the same order every time."""
    if len(draws) < 2:
        return missing("fewer than two models to rank")
    table = np.stack(list(draws.values()))[:, : looked_at + 1]
    signs = np.sign(table[:, None, :] - table[None, :, :]).reshape(-1, table.shape[1])
    agreed = (signs * signs[:, :1]).sum(axis=0)
    untied = np.abs(signs).sum(axis=0)
    known = np.array(
        [
            both / math.sqrt(own * untied[0])
            for both, own in zip(agreed[1:], untied[1:], strict=True)
            if own and untied[0]
        ]
    )
    if not known.size:
        return missing("undefined: no order among equal values")
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(
        value=float(known.mean()), low=float(low), high=float(high), n=len(draws), note=""
    )


def minimum_detectable(draws: FloatArray, level: float = LEVEL, power: float = POWER) -> float:
    """The least difference that a study of this noise would find with this power.

    ``draws`` (D+1,) of a difference. The half width of its interval plus the distance of the
    power's quantile: Student's (t_{1-a/2} + t_{power}) times the standard error where seeds decide.
    """
    table = np.asarray(draws, dtype=np.float64)
    drawn = table[1:][np.isfinite(table[1:])]
    if not drawn.size:
        return math.nan
    tails = [(1 - level) / 2, (1 + level) / 2, 1 - power, power]
    low, high, under, over = np.quantile(drawn, tails)
    return float((high - low) / 2 + (over - under) / 2)
