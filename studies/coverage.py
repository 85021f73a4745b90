"""How often a 95 % interval holds the truth, in simulated studies.

A study is a table of scores, seeds by items, whose truth is known. The variance of its mean has
three parts: by seeds, by items, and by each answer on its own. Scores are normal; or right and
wrong answers, drawn from chances on a logistic scale with the same three parts. Every study gets
the interval of the reports (:func:`titer.evidence.resample.resample`).

``python -m studies.coverage`` prints the table. S seeds, I items, N studies.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from titer.evidence.resample import FloatArray, resample

__all__ = ["MIXTURES", "answered", "coverage", "main", "normal"]

Parts = tuple[float, float, float]
"""Shares of the variance of a mean: by seeds, by items, by each answer."""

MIXTURES: tuple[Parts, ...] = (
    (1, 0, 0),
    (0.8, 0.2, 0),
    (0.5, 0.5, 0),
    (0.2, 0.8, 0),
    (0, 1, 0),
    (0.4, 0.4, 0.2),
    (0.2, 0.3, 0.5),
    (0.1, 0.1, 0.8),
    (0, 0.5, 0.5),
    (0, 0.2, 0.8),
    (0, 0, 1),
)
"""From chance of seeds alone to chance of each answer alone."""

_DRAWS = 999
_AT_ONCE = 100


def normal(
    seeds: int, items: int, parts: Parts, studies: int, rng: np.random.Generator
) -> FloatArray:
    """Scores (N, S, I) about 0 whose mean has variance 1, in those parts."""
    by_seed, by_item, alone = np.sqrt(parts)
    scores = by_seed * np.sqrt(seeds) * rng.standard_normal((studies, seeds, 1))
    scores = scores + by_item * np.sqrt(items) * rng.standard_normal((studies, 1, items))
    own = alone * np.sqrt(seeds * items)
    return scores + own * rng.standard_normal((studies, seeds, items))


def answered(
    seeds: int, items: int, level: float, spread: Parts, studies: int, rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """Right and wrong answers (N, S, I), and the chance of a right one over all there could be.

    ``level`` is the logit of an answer to an item of no difficulty; ``spread`` are the standard
    deviations, in logits, that seeds, items, and pairs of the two add.
    """
    by_seed, by_item, pair = spread

    def chances(count: int, size: int, many: int) -> FloatArray:
        logits = level + by_seed * rng.standard_normal((count, size, 1))
        logits = logits + by_item * rng.standard_normal((count, 1, many))
        logits = logits + pair * rng.standard_normal((count, size, many))
        return 1 / (1 + np.exp(-logits))

    right = rng.uniform(size=(studies, seeds, items)) < chances(studies, seeds, items)
    return right.astype(np.float64), float(chances(20_000, 10, 10).mean())


def coverage(scores: FloatArray, truth: float, rng: np.random.Generator) -> tuple[float, float]:
    """The share of studies (N, S, I) whose interval holds the truth, and its median width."""
    _, seeds, items = scores.shape
    hits: list[FloatArray] = []
    widths: list[FloatArray] = []
    # A resample of its own for every hundred studies.
    for part in np.array_split(scores, max(1, len(scores) // _AT_ONCE)):
        drawn = resample(seeds, items, rng, _DRAWS)
        values = np.moveaxis(part @ drawn.items.T, 1, 0)
        low, high = np.quantile(drawn.over_seeds(values, range(seeds)), [0.025, 0.975], axis=-1)
        hits.append((low <= truth) & (high >= truth))
        widths.append(high - low)
    return float(np.concatenate(hits).mean()), float(np.median(np.concatenate(widths)))


_LEVELS = (0.0, 1.5)
_SPREADS: tuple[Parts, ...] = ((0.5, 0, 0), (0.5, 1, 0), (0.2, 2, 0.5), (0, 1, 0), (0, 0, 0))


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=3000)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--seed", type=int, default=7, help="of the simulation")
    asked = parser.parse_args(words)
    rng = np.random.default_rng(asked.seed)
    error = 100 * (0.95 * 0.05 / asked.studies) ** 0.5
    print(
        f"% of {asked.studies} studies of {asked.items} items covered; standard error {error:.1f}"
    )
    print("\nnormal scores; shares of the variance by seeds, items, answers\n")
    print("| shares | " + " | ".join(f"{count} seeds" for count in asked.seeds) + " |")
    print("| --- " * (1 + len(asked.seeds)) + "|")
    for parts in MIXTURES:
        found = [
            coverage(normal(count, asked.items, parts, asked.studies, rng), 0.0, rng)[0]
            for count in asked.seeds
        ]
        shares = " / ".join(f"{share:g}" for share in parts)
        print(f"| {shares} | " + " | ".join(f"{100 * one:.1f}" for one in found) + " |", flush=True)
    print("\nright and wrong answers; deviations in logits by seeds, items, pairs\n")
    print("| chance, deviations | " + " | ".join(f"{count} seeds" for count in asked.seeds) + " |")
    print("| --- " * (1 + len(asked.seeds)) + "|")
    for level in _LEVELS:
        for spread in _SPREADS:
            cells: list[str] = []
            truth = 0.0
            for count in asked.seeds:
                scores, truth = answered(count, asked.items, level, spread, asked.studies, rng)
                cells.append(f"{100 * coverage(scores, truth, rng)[0]:.1f}")
            deviations = " / ".join(f"{one:g}" for one in spread)
            print(f"| {truth:.2f}, {deviations} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
