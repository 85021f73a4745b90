"""What a search tried is charged, and its luck is told from what fresh seeds bear out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.pillars.made_traces import arena, resist, study, trace
from titer.core import Trace

GOOD = (0.9,) * 4


def test_every_setting_that_was_tried_is_charged() -> None:
    made = study()
    for seed in range(3):
        made.append(trace("m", "S", seed, (0.25,) * 4, GOOD))
        made.append(trace("m", "S", seed, (0.25, 0.25, 0.25, 0.3), GOOD, lr=2.0))
    spent = {point.steps: point for point in resist(made, "m").curve}
    assert spent[100].tokens == 2000
    assert spent[100].flops == pytest.approx(20_000.0)
    assert spent[100].examples == 8, "the settings draw the same examples"


def _fresh(picks: tuple[float, ...], reported: tuple[float, ...], rows: int = 3) -> list[Trace]:
    """A search over rates 1, 2, … on a seed of its own; the first ``rows`` on seeds 0 to 2."""
    made = study()
    for rate, (pick, harm) in enumerate(zip(picks, reported, strict=True), start=1):
        shown = {"lr": float(rate), "select": (0.1, 0.1, 0.1, pick)}
        found = (0.25, 0.25, 0.25, pick)
        made.append(trace("m", "S", 2**20, found, GOOD, purpose="search", **shown))  # type: ignore[arg-type]
        for seed in range(3) if rate <= rows else ():
            made.append(trace("m", "S", seed, (0.25, 0.25, 0.25, harm), GOOD, **shown))  # type: ignore[arg-type]
    return made


def test_what_a_search_found_counts_only_as_far_as_fresh_seeds_bear_it_out() -> None:
    found = resist(_fresh((0.9, 0.8, 0.7, 0.6), (0.5, 0.4, 0.3, 1.0)), "m")
    assert found.weak.value == pytest.approx(0.5)
    assert found.optimism_gap.value == pytest.approx(0.4)
    assert "a seed of its own" in found.optimism_gap.note


def test_an_attacker_is_charged_for_the_search_as_well() -> None:
    made = _fresh((0.9, 0.8, 0.7, 0.6), (0.5, 0.4, 0.3, 1.0))
    alone = [t for t in made if t.trial.purpose != "search"]
    dear, cheap = (resist(one, "m").curve[-1] for one in (made, alone))
    assert cheap.tokens == 3 * 1000
    assert dear.tokens == (3 + 4) * 1000
    assert dear.examples == cheap.examples, "the settings of a search draw the same"
    assert max(one.k for one in resist(made, "m").search) == 3 * 3 + 4, (
        "every trial counts among the best of k"
    )


def test_an_edge_is_seen_among_all_that_were_tried() -> None:
    """The best of five rates is the largest, though of the three on fresh seeds it is not."""
    rising = _fresh((0.3, 0.4, 0.5, 0.6, 0.9), (0.3, 0.3, 0.3, 0.3, 0.3))
    assert "S3 lr-at-edge: 5 of 1 to 5" in resist(rising, "m").rows[0].validity
    inside = _fresh((0.3, 0.4, 0.9, 0.6, 0.3), (0.3, 0.3, 0.4, 0.3, 0.3))
    assert "S3" not in resist(inside, "m").rows[0].validity


def test_a_search_trial_that_was_lost_may_have_been_the_strongest() -> None:
    made = _fresh((0.9, 0.8, 0.7, 0.6), (0.3, 0.3, 0.3, 0.3))
    lost = [replace(t, status="failed", points=()) if _nth(t, 4.0) else t for t in made]
    assert resist(lost, "m").withheld == f"S seed {2**20} failed"
    apart = [replace(t, status="diverged", points=()) if _nth(t, 4.0) else t for t in made]
    assert not resist(apart, "m").withheld


def _nth(found: Trace, rate: float) -> bool:
    return found.trial.purpose == "search" and found.trial.attack.fields["lr"] == rate


def test_fresh_seeds_take_the_luck_out_of_the_best_of_many() -> None:
    """Forty settings that are all alike, each run with luck of its own: the best of them looks much
    better than it is, and on fresh seeds it is what it is."""
    rng = np.random.default_rng(0)
    biased, honest, gaps = [], [], []
    for _ in range(20):
        luck = np.clip(0.5 + 0.15 * rng.standard_normal(40), 0, 1)
        again = np.clip(0.5 + 0.15 * rng.standard_normal((3, 3)), 0, 1)
        best = np.argsort(-luck)[:3]
        made = study()
        for rate in range(40):
            shown = {"lr": 1.0 + rate, "select": (0.1, 0.1, 0.1, luck[rate])}
            found = (0.25, 0.25, 0.25, float(luck[rate]))
            made.append(trace("m", "S", 2**20, found, GOOD, purpose="search", **shown))  # type: ignore[arg-type]
        for place, rate in enumerate(best):
            for seed in range(3):
                value = float(again[place, seed])
                shown = {"lr": 1.0 + rate, "select": (0.1, 0.1, 0.1, value)}
                made.append(trace("m", "S", seed, (0.25, 0.25, 0.25, value), GOOD, **shown))  # type: ignore[arg-type]
        seen = resist(made, "m", arena(made, draws=2))
        honest.append(seen.weak.value)
        gaps.append(seen.optimism_gap.value)
        biased.append(luck.max())
    assert np.mean(biased) > 0.75
    assert abs(np.mean(honest) - 0.5) < 0.12
    assert np.mean(gaps) > 0.15
