"""The statistics against packages that have them: scipy, and arch, lifelines and statsmodels where
they are installed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from titer.evidence.aggregate import (
    holm,
    kaplan_meier,
    minimum_detectable,
    performance_profile,
    two_sided,
)
from titer.evidence.resample import (
    bootstrap_mean,
    equivalent,
    paired_difference,
    resample,
    wilson,
)

scipy: Any = stats


def _censored(seed: int, count: int = 40) -> tuple[list[float], list[bool]]:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 25, count).astype(float).tolist(), (
        rng.uniform(size=count) < 0.6
    ).tolist()


def _scores(items: int = 60) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores of one seed, skewed as those of recipes are."""
    return np.random.default_rng(2).beta(0.4, 1.2, size=items)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_the_bootstrap_over_items_is_scipys(method: str) -> None:
    """Of the same resample exactly, and within a tenth of its width of the accelerated one."""
    scores = _scores()
    ours = bootstrap_mean(scores[None, :], np.random.default_rng(0), 20_000)
    theirs = scipy.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    tolerance = (theirs.high - theirs.low) * (0.02 if method == "percentile" else 0.10)
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)


def test_a_paired_difference_is_scipys_test_of_signs_flipped() -> None:
    """One seed, items paired: the bootstrap's p-value is that of the permutation test, and orders
    differences as Wilcoxon's signed ranks do."""
    rng = np.random.default_rng(3)
    before = rng.uniform(size=80)
    seen: list[tuple[float, float, float]] = []
    for shift in (0.0, 0.02, 0.04, 0.08):
        after = before + shift + rng.normal(0, 0.15, 80)
        draws = paired_difference(after[None, :], before[None, :], np.random.default_rng(0), 20_000)
        flipped = scipy.permutation_test(
            (after - before,),
            np.mean,
            permutation_type="samples",
            n_resamples=20_000,
            rng=np.random.default_rng(1),
        ).pvalue
        ranks = scipy.wilcoxon(after, before).pvalue
        seen.append((two_sided(draws), float(flipped), float(ranks)))
    ours, flipped, ranks = (np.array(column) for column in zip(*seen, strict=True))
    np.testing.assert_allclose(ours, flipped, atol=0.02)
    assert np.argsort(ours).tolist() == np.argsort(ranks).tolist()


@pytest.mark.parametrize("centre", [0.0, 0.012, 0.03])
def test_equivalence_is_two_one_sided_tests(centre: float) -> None:
    """Seeds alone: the 90 % interval inside the margin is both of Student's tests at 5 %."""
    gaps = np.random.default_rng(7).normal(centre, 0.008, 6)
    draws = resample(6, 1, np.random.default_rng(0), 40_000).mean(gaps[:, None])
    above = scipy.ttest_1samp(gaps, -0.02, alternative="greater").pvalue
    below = scipy.ttest_1samp(gaps, 0.02, alternative="less").pvalue
    assert (equivalent(draws, 0.02) is True) == (max(above, below) < 0.05)


def test_the_profile_is_scipys_survival_function() -> None:
    values = np.round(np.random.default_rng(0).uniform(size=(12, 5)), 1)
    levels = np.linspace(0, 1, 21)
    theirs = scipy.ecdf(values.ravel()).sf.evaluate(levels)
    np.testing.assert_allclose(performance_profile(values, levels.tolist()), theirs)


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """p adjusted: the largest Bonferroni p over all sets of hypotheses that hold it. It lies
    between Benjamini and Hochberg's and Bonferroni's."""
    given = {"a": 0.012, "b": 0.04, "c": 0.03, "d": 0.005, "e": 0.2}
    names = list(given)
    adjusted = holm(given)
    for name in names:
        sets = [
            chosen
            for size in range(1, len(names) + 1)
            for chosen in itertools.combinations(names, size)
            if name in chosen
        ]
        closed = max(min(1.0, len(one) * min(given[n] for n in one)) for one in sets)
        assert adjusted[name] == pytest.approx(closed)
    discovery = scipy.false_discovery_control(list(given.values()))
    assert (np.array([adjusted[n] for n in names]) >= discovery - 1e-12).all()
    assert all(adjusted[n] <= min(1.0, len(names) * given[n]) + 1e-12 for n in names)


def test_the_detectable_difference_has_the_power_that_it_says() -> None:
    """Student's non-central distribution: seeds alone, noise known to the resample."""
    gaps = np.random.default_rng(5).normal(0, 0.1, 30)
    draws = resample(30, 1, np.random.default_rng(0), 40_000).mean(gaps[:, None])
    found = minimum_detectable(draws)
    centre = found / stats.sem(gaps)
    power = stats.nct.sf(stats.t.ppf(0.975, 29), 29, centre)
    assert power == pytest.approx(0.80, abs=0.02)


# -- packages that are not among titer's own -------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kaplan_meier_equals_lifelines(seed: int) -> None:
    lifelines: Any = pytest.importorskip("lifelines")
    times, seen = _censored(seed)
    fitter = lifelines.KaplanMeierFitter().fit(times, event_observed=seen)
    ticks, left, _ = kaplan_meier(times, seen)
    np.testing.assert_allclose(left, fitter.survival_function_at_times(ticks).to_numpy())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kaplan_meier_equals_statsmodels(seed: int) -> None:
    duration: Any = pytest.importorskip("statsmodels.duration.api")
    times, seen = _censored(seed)
    theirs = duration.SurvfuncRight(np.array(times), np.array(seen).astype(int))
    ticks, left, error = kaplan_meier(times, seen)
    np.testing.assert_allclose(ticks, theirs.surv_times)
    np.testing.assert_allclose(left, theirs.surv_prob)
    some = left > 0  # where none is left, Greenwood's formula divides nothing by nothing
    np.testing.assert_allclose(error[some], theirs.surv_prob_se[some], atol=1e-9)


def test_holm_and_wilson_equal_statsmodels() -> None:
    multitest: Any = pytest.importorskip("statsmodels.stats.multitest")
    proportion: Any = pytest.importorskip("statsmodels.stats.proportion")
    rng = np.random.default_rng(0)
    for _ in range(20):
        given = {str(n): float(p) for n, p in enumerate(rng.uniform(0, 0.2, 9))}
        theirs = multitest.multipletests(list(given.values()), method="holm")[1]
        np.testing.assert_allclose(list(holm(given).values()), theirs)
    low, high = proportion.proportion_confint(17, 72, method="wilson")
    ours = wilson(17, 72)
    assert [ours.low, ours.high] == pytest.approx([float(low), float(high)], abs=1e-6)


def test_the_bootstrap_over_items_is_archs() -> None:
    bootstrap: Any = pytest.importorskip("arch.bootstrap")
    scores = _scores()
    ours = bootstrap_mean(scores[None, :], np.random.default_rng(0), 20_000)
    drawn = bootstrap.IIDBootstrap(scores, seed=np.random.default_rng(1))
    low, high = drawn.conf_int(np.mean, reps=5000, method="percentile").ravel()
    assert [ours.low, ours.high] == pytest.approx([low, high], abs=0.03 * (high - low))
