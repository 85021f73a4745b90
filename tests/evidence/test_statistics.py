"""The statistics against closed forms, scipy and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from titer.evidence.resample import (
    as_scores,
    bootstrap_mean,
    equivalent,
    expected_maximum,
    geometric_mean,
    log_area,
    log_crossing,
    paired_difference,
    resample,
    summarise,
    wilson,
)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 10), (57, 200), (1, 1)])
def test_wilson_equals_scipy(hits: int, trials: int) -> None:
    ours = wilson(hits, trials)
    theirs = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    assert ours.value == hits / trials
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)


@pytest.mark.parametrize(("hits", "trials"), [(1, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_share(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(hits, trials)


def test_first_draw_is_the_data() -> None:
    scores = np.random.default_rng(0).uniform(size=(4, 30))
    drawn = resample(4, 30, np.random.default_rng(1), 50)
    assert drawn.mean(scores)[0] == pytest.approx(scores.mean())
    np.testing.assert_allclose(drawn.seeds.sum(axis=1), 0, atol=1e-12)
    assert not drawn.seeds[0].any()
    np.testing.assert_allclose(drawn.items.sum(axis=1), 1)


@pytest.mark.parametrize("seeds", [2, 3, 5, 9])
def test_seeds_alone_give_students_interval(seeds: int) -> None:
    scores = np.random.default_rng(seeds).normal(0.5, 0.1, (seeds, 1))
    draws = resample(seeds, 1, np.random.default_rng(0), 40_000).mean(scores)
    theirs = stats.t.interval(0.9, seeds - 1, scores.mean(), stats.sem(scores[:, 0]))
    np.testing.assert_allclose(
        np.quantile(draws[1:], [0.05, 0.95]), theirs, atol=0.04 * (theirs[1] - theirs[0])
    )


def test_the_luck_of_items_counts_once() -> None:
    """With no effect of seeds, the variance is that of answers that differ by chance alone."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(400, 40))
    draws = resample(400, 40, np.random.default_rng(0), 4000).mean(scores)[1:]
    assert draws.var() == pytest.approx(1 / (400 * 40), rel=0.25)


def test_item_interval_equals_the_normal_one() -> None:
    scores = np.array([[1.0] * 120 + [0.0] * 80])
    shown = bootstrap_mean(scores, np.random.default_rng(0), 8000)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 200)
    assert shown.low == pytest.approx(0.6 - half, abs=0.006)
    assert shown.high == pytest.approx(0.6 + half, abs=0.006)
    assert shown.n == 200
    assert "one seed" in shown.note


def test_the_same_generator_gives_the_same_interval() -> None:
    scores = np.random.default_rng(3).uniform(size=(3, 20))
    one, two = (bootstrap_mean(scores, np.random.default_rng(5), 300) for _ in range(2))
    assert one == two


def test_constants_keep_an_honest_width() -> None:
    shown = bootstrap_mean(np.zeros((3, 50)), np.random.default_rng(0), 100)
    assert (shown.value, shown.low) == (0.0, 0.0)
    assert shown.high == pytest.approx(wilson(0, 50).high)
    middle = bootstrap_mean(np.full((3, 50), 0.5), np.random.default_rng(0), 100)
    assert (middle.value, middle.low, middle.high) == (0.5, 0.5, 0.5)


def test_summary_of_the_undefined_and_the_censored() -> None:
    assert summarise([math.nan, 1.0, 2.0], n=3).value is None
    some = summarise([1.0, math.nan, 2.0], n=3)
    assert (some.value, some.high) == (1.0, 2.0)
    bound = summarise([5.0, 4.0, 6.0], n=3, censored=True)
    assert bound.censored
    assert bound.high is None
    assert summarise([1.0], n=1).low is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_interval_holds_its_value(samples: list[float]) -> None:
    shown = summarise(samples, n=1)
    assert shown.value is not None
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low <= shown.value <= shown.high


def test_pairing_removes_what_items_share() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(size=(1, 100))
    draws = paired_difference(before + 0.1, before, rng, 200)
    np.testing.assert_allclose(draws, 0.1)
    with pytest.raises(ValueError, match="cannot pair"):
        paired_difference(before, before[:, :50], rng, 10)
    several = paired_difference(np.tile(before, (3, 1)), np.tile(before, (2, 1)), rng, 10)
    np.testing.assert_allclose(several, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("centre", "spread", "expected"),
    [(0.0, 0.005, True), (0.1, 0.005, False), (0.0, 0.05, None), (0.015, 0.01, None)],
)
def test_equivalence(centre: float, spread: float, expected: bool | None) -> None:
    draws = centre + spread * np.random.default_rng(0).normal(size=2000)
    draws[0] = centre
    assert equivalent(draws, 0.02) is expected


def test_geometric_mean_equals_scipy() -> None:
    values = np.array([[1.0, 2.0], [8.0, 50.0]])
    np.testing.assert_allclose(geometric_mean(values), stats.gmean(values))


def test_expected_maximum_equals_every_choice() -> None:
    values = [0.3, 0.9, 0.1, 0.4, 0.4]
    for k, got in enumerate(expected_maximum(values), start=1):
        choices = [max(pick) for pick in itertools.combinations(values, k)]
        assert got == pytest.approx(np.mean(choices))
    assert expected_maximum([]).size == 0


def test_log_area() -> None:
    steps = [1, 10, 100]
    assert log_area(steps, np.array([0.5, 0.5, 0.5])) == pytest.approx(0.5)
    assert log_area(steps, np.array([0.0, 0.5, 1.0])) == pytest.approx(0.5)
    assert log_area(steps, np.array([0.0, 1.0, 1.0])) == pytest.approx(0.75)
    assert log_area([7], np.array([0.3])) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="positive and rising"):
        log_area([0, 1], np.zeros(2))


def test_log_crossing() -> None:
    steps = [1, 10, 100]
    curves = np.array([[0.0, 0.9, 0.1, 0.0], [0.0, 0.9, 0.3, 0.5], [1.0, 0.9, 0.3, 0.5]])
    times, seen = log_crossing(steps, curves, 0.5)
    np.testing.assert_allclose(times, [10**1.5, 1, 100, 10])
    np.testing.assert_array_equal(seen, [True, True, False, True])
    assert log_crossing(steps, curves[:, 2:3], 0.5, horizon=40)[0][0] == 40


def test_seeds_at_hand_share_the_weight() -> None:
    """With seeds missing the interval is that of those at hand, but for the tails."""
    drawn = resample(5, 1, np.random.default_rng(0), 30_000)
    values = np.array([[1.0], [3.0], [8.0]]) * np.ones(drawn.rows)
    shown = drawn.over_seeds(values, [0, 2, 4])
    assert shown[0] == 4
    normal = (shown[1:] - 4) / np.sqrt(drawn.spread[1:])
    assert normal.var() == pytest.approx(np.var([1, 3, 8], ddof=1) / 3, rel=0.03)
    np.testing.assert_array_equal(drawn.over_seeds(values[:1], [2]), np.ones(drawn.rows))


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match="seeds, items"):
        as_scores(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="0 seeds"):
        resample(0, 3, np.random.default_rng(0))


@pytest.mark.parametrize(("value", "high", "censored"), [(0.5, 1.0, True), (1.0, 1.0, False)])
def test_a_share_that_is_a_lower_bound_ends_at_one(
    value: float, high: float, censored: bool
) -> None:
    found = summarise(np.full(50, value), n=5, shares=40, censored=True)
    assert (found.value, found.high, found.censored) == (value, high, censored)
    assert summarise(np.full(50, value), n=5, censored=True).high is None
