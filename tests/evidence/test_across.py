"""Statistics over many adversaries and models, against scipy and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from titer.evidence.aggregate import (
    corrected_maximum,
    holm,
    interquartile_mean,
    kaplan_meier,
    kendall,
    minimum_detectable,
    performance_profile,
    rank_intervals,
    two_sided,
    worst_mean,
)
from titer.evidence.resample import FloatArray, resample

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 51])
def test_interquartile_mean_equals_scipy(count: int) -> None:
    values = np.random.default_rng(count).normal(size=(count, 6))
    np.testing.assert_allclose(
        interquartile_mean(values), stats.trim_mean(values, 0.25, axis=0), atol=1e-12
    )


def test_interquartile_mean_shrugs_off_outliers() -> None:
    assert interquartile_mean([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 99.0]) == pytest.approx(0.45)


def test_worst_mean() -> None:
    assert worst_mean([0.1, 0.9, 0.5, 0.7, 0.3, 0.2, 0.0]) == pytest.approx(0.52)
    assert worst_mean([0.2, 0.4]) == pytest.approx(0.3)


def test_performance_profile() -> None:
    values = [[0.0, 0.5], [0.5, 1.0]]
    assert performance_profile(values, [0.0, 0.25, 0.5, 1.0]) == (0.75, 0.75, 0.25, 0.0)
    with pytest.raises(ValueError, match="no values"):
        performance_profile([], [0.5])


def test_kaplan_meier_equals_scipy() -> None:
    times = [3.0, 5.0, 5.0, 8.0, 10.0, 10.0, 10.0]
    seen = [True, True, False, True, True, False, False]
    event, mark = np.array(times), np.array(seen)
    theirs = stats.ecdf(stats.CensoredData(uncensored=event[mark], right=event[~mark])).sf
    ticks, left, error = kaplan_meier(times, seen)
    np.testing.assert_allclose(left, theirs.evaluate(ticks))
    low = theirs.confidence_interval(confidence_level=0.95, method="linear").low.probabilities
    inner = (low > 0) & np.isin(theirs.quantiles, ticks)
    np.testing.assert_allclose(
        (left - 1.959964 * error)[inner[np.isin(theirs.quantiles, ticks)]], low[inner], atol=1e-6
    )
    with pytest.raises(ValueError, match="2 times, 1 marks"):
        kaplan_meier([1.0, 2.0], [True])


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_two_sided_is_students_paired_test(seeds: int) -> None:
    gaps = np.random.default_rng(seeds).normal(0.06, 0.1, seeds)
    draws = resample(seeds, 1, np.random.default_rng(0), 60_000).mean(gaps[:, None])
    theirs: Any = stats.ttest_1samp(gaps, 0)
    assert two_sided(draws) == pytest.approx(theirs.pvalue, abs=0.012)


def test_two_sided_of_no_difference() -> None:
    assert two_sided(np.zeros(100)) == 1.0
    assert two_sided(np.full(100, 0.5)) == pytest.approx(2 / 100)
    assert two_sided(np.array([0.5])) == 1.0


def test_holm_by_hand() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert holm({"x": 0.6, "y": 0.7}) == {"x": 1.0, "y": 1.0}


def draws_of(means: dict[str, float], noise: float) -> dict[str, FloatArray]:
    rng = np.random.default_rng(5)
    shown = {name: mean + noise * rng.standard_normal(2001) for name, mean in means.items()}
    for name, mean in means.items():
        shown[name][0] = mean
    return shown


def test_rank_intervals() -> None:
    means = {"a": 0.1, "b": 0.5, "c": 0.52}
    assert rank_intervals(draws_of(means, 0.03)) == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}
    assert rank_intervals(draws_of(means, 1.0)) == {"a": (1, 3), "b": (1, 3), "c": (1, 3)}
    assert rank_intervals(draws_of(means, 1e-6)) == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}


def test_ranks_of_equals_are_rarely_told_apart() -> None:
    """Holm keeps the chance of any false word under five percent."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        drawn = resample(4, 1, rng, 600)
        models = {name: drawn.mean(rng.normal(size=(4, 1))) for name in "abcd"}
        wrong += any(interval != (1, 4) for interval in rank_intervals(models).values())
    assert wrong / 200 < 0.09


def test_kendall_says_how_firm_an_order_is() -> None:
    means = {"a": 0.1, "b": 0.5, "c": 0.9}
    firm, loose = kendall(draws_of(means, 1e-6)), kendall(draws_of(means, 3.0))
    assert firm.value == 1.0
    assert loose.value is not None
    assert abs(loose.value) < 0.4
    assert kendall({"a": np.zeros(5)}).value is None
    assert kendall({"a": np.zeros(5), "b": np.zeros(5)}).value is None


def test_kendall_equals_scipy_with_ties() -> None:
    table = np.round(np.random.default_rng(3).uniform(size=(6, 30)), 1)
    ours = kendall({str(k): row for k, row in enumerate(table)})
    scipy: Any = stats
    theirs = [scipy.kendalltau(table[:, 0], table[:, d]).statistic for d in range(1, 30)]
    assert ours.value == pytest.approx(np.mean(theirs))


def test_minimum_detectable_is_students() -> None:
    seeds = 6
    gaps = np.random.default_rng(1).normal(0, 0.2, seeds)
    draws = resample(seeds, 1, np.random.default_rng(0), 60_000).mean(gaps[:, None])
    error = stats.sem(gaps)
    closed = (stats.t.ppf(0.975, seeds - 1) + stats.t.ppf(0.8, seeds - 1)) * error
    assert minimum_detectable(draws) == pytest.approx(closed, rel=0.03)
    assert math.isnan(minimum_detectable(np.array([0.1])))


def test_a_study_finds_the_detectable_difference_four_times_in_five() -> None:
    rng = np.random.default_rng(8)
    found = 0
    error = 1 / math.sqrt(10)
    gap = (stats.t.ppf(0.975, 9) + stats.t.ppf(0.8, 9)) * error
    for _ in range(300):
        draws = resample(10, 1, rng, 800).mean(rng.normal(gap, 1, (10, 1)))
        found += two_sided(draws) < 0.05
    assert 0.70 < found / 300 < 0.88


def test_a_lone_adversary_needs_no_correction() -> None:
    draws = 0.4 + 0.01 * RNG.standard_normal((1, 500))
    draws[0, 0] = 0.4
    assert corrected_maximum(draws, n=3).value == 0.4
