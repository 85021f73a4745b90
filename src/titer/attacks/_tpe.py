"""A tree-structured Parzen estimator over the unit cube, small enough to carry along."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

__all__ = ["suggest"]

Point = tuple[float, ...]


def suggest(
    ranked: Sequence[Point],
    size: int,
    rng: random.Random,
    *,
    startup: int = 10,
    share: float = 0.15,
    draws: int = 24,
) -> Point:
    """The next point to try, in [0, 1] in each of ``size`` coordinates.

    Args:
        ranked: the points tried so far, best first.
        startup: points drawn evenly before any is modelled.
        share: of the points, those that count as good.
        draws: points drawn from the density of the good ones, of which that with the highest ratio
            of good to other density is returned, coordinate by coordinate.

    Source: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; as in Optuna's
    independent sampler, with a flat prior as one more component of each density.
    """
    if len(ranked) < startup:
        return tuple(rng.random() for _ in range(size))
    cut = max(2, math.ceil(share * len(ranked)))
    return tuple(
        _coordinate([p[axis] for p in ranked[:cut]], [p[axis] for p in ranked[cut:]], rng, draws)
        for axis in range(size)
    )


def _coordinate(
    good: Sequence[float], rest: Sequence[float], rng: random.Random, draws: int
) -> float:
    def drawn() -> float:
        place = rng.randrange(len(good) + 1)
        if place == len(good):
            return rng.random()
        value = rng.gauss(good[place], _width(good))
        return min(1.0, max(0.0, value))

    candidates = [drawn() for _ in range(draws)]
    return max(candidates, key=lambda x: _density(x, good) / _density(x, rest))


def _width(centres: Sequence[float]) -> float:
    """Narrower with more points, never so narrow that the search stands still."""
    return max(0.05, 1.0 / (1 + len(centres)))


def _density(x: float, centres: Sequence[float]) -> float:
    """Mean of Gaussians around the centres and of the flat prior, up to a constant."""
    width = _width(centres)
    bells = sum(math.exp(-0.5 * ((x - centre) / width) ** 2) for centre in centres)
    return (1.0 + bells / (width * math.sqrt(2 * math.pi))) / (len(centres) + 1)
