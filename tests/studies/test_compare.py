"""Intervals against textbook forms, and what an interval says of a published direction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from studies._compare import Claim, Direction, answer, estimate, table, written

from titer.core.records import Estimate


def test_one_item_gives_the_t_interval_over_seeds() -> None:
    values = np.array([0.1, 0.4, 0.2])
    seen = estimate(values[:, None])
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
    assert seen.value == pytest.approx(values.mean())
    assert (seen.low, seen.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_seeds_that_agree_leave_the_t_interval_over_items() -> None:
    row = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    seen = estimate(np.stack([row, row, row]))
    half = stats.t.ppf(0.975, 4) * row.std(ddof=1) / math.sqrt(5)
    assert (seen.low, seen.high) == pytest.approx((0.6 - half, 0.6 + half))


def test_both_sources_are_added_and_cover_in_simulation() -> None:
    """Effects of seeds, of items and of both: of nominal 95 % intervals 93 % hold the truth."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        by_seed, by_item = rng.normal(size=(3, 1)), rng.normal(size=(1, 30))
        seen = estimate(0.7 + 0.1 * by_seed + 0.3 * by_item + 0.3 * rng.normal(size=(3, 30)))
        held += (seen.low or 0) <= 0.7 <= (seen.high or 0)
    assert held / 500 > 0.93


def test_one_seed_has_a_value_and_no_interval() -> None:
    seen = estimate([[0.2, 0.4]])
    assert (seen.value, seen.low, seen.high, seen.n) == (pytest.approx(0.3), None, None, 1)
    assert answer(seen, "above zero") == "undecided"
    assert answer(estimate(np.empty((0, 0))), "above zero") == "not run"


@pytest.mark.parametrize(
    ("low", "high", "direction", "expected"),
    [
        (-0.3, -0.1, "below zero", "agrees"),
        (-0.3, 0.1, "below zero", "undecided"),
        (0.0, 0.1, "below zero", "does not"),
        (0.1, 0.2, "above zero", "agrees"),
        (-0.1, 0.0, "above zero", "does not"),
        (-0.04, 0.2, "not below zero", "agrees"),
        (-0.2, 0.2, "not below zero", "undecided"),
        (-0.2, -0.1, "not below zero", "does not"),
        (-0.05, 0.05, "about zero", "agrees"),
        (-0.05, 0.2, "about zero", "undecided"),
        (0.06, 0.2, "about zero", "does not"),
        (-0.2, -0.06, "about zero", "does not"),
    ],
)
def test_what_an_interval_says(
    low: float, high: float, direction: Direction, expected: str
) -> None:
    seen = Estimate(value=(low + high) / 2, low=low, high=high, n=3)
    assert answer(seen, direction, margin=0.05) == expected


def test_a_line_of_the_table() -> None:
    claim = Claim(
        published="it rises",
        source="a paper",
        quantity="difference",
        direction="above zero",
        seen=Estimate(value=-0.1, low=-0.204, high=-0.001, n=3),
    )
    assert claim.row() == (
        "it rises",
        "a paper",
        "difference: above zero",
        "−0.10 [−0.20, +0.00]",
        "3",
        "does not",
    )
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert written(Estimate(value=None)) == "—"
