"""Resistance normalised by the two references: closed forms, and the choice of the attacker."""

from __future__ import annotations

import numpy as np
import pytest
from studies._resistance import Curves, curves, normalised

from tests.studies import planted
from titer.evidence.resample import log_area

STEPS = (1, 3, 10, 30, 60)
CHANCE = 0.125


def _flat(*levels: float, seeds: int = 2, items: int = 6) -> Curves:
    """Adversaries under whom harm is level at every look."""
    return np.stack([np.full((seeds, len(STEPS), items), level) for level in levels])


def _between(harm: Curves) -> tuple[float | None, float | None]:
    found = normalised(STEPS, harm, _flat(0.9), _flat(0.2), chance=CHANCE, draws=50)
    return found.area.value, found.end.value


def test_the_references_are_zero_and_one_and_between_is_in_proportion() -> None:
    assert _between(_flat(0.9)) == pytest.approx((0.0, 0.0))
    assert _between(_flat(0.2)) == pytest.approx((1.0, 1.0))
    assert _between(_flat(0.55)) == pytest.approx((0.5, 0.5))


def test_the_worst_adversary_counts_and_what_was_reached_is_kept() -> None:
    assert _between(_flat(0.2, 0.55)) == pytest.approx((0.5, 0.5))
    falling = _flat(0.55)
    falling[:, :, 1:] = 0.2
    assert _between(falling) == pytest.approx((0.5, 0.5))


def test_the_area_is_over_log_steps() -> None:
    late = _flat(0.2)
    late[:, :, -1] = 0.9
    curve = np.array([0.2, 0.2, 0.2, 0.2, 0.9])
    area, end = _between(late)
    assert area == pytest.approx((0.9 - float(log_area(STEPS, curve))) / 0.7)
    assert end == pytest.approx(0.0)


def test_below_chance_earns_nothing() -> None:
    never = _flat(CHANCE)
    found = normalised(STEPS, _flat(0.0), _flat(0.9), never, chance=CHANCE, draws=50)
    assert found.area.value == pytest.approx(1.0)


def test_references_that_do_not_differ_leave_it_undefined() -> None:
    found = normalised(STEPS, _flat(0.5), _flat(0.5), _flat(0.45), chance=CHANCE, draws=50)
    assert found.area.value is None


def test_curves_come_from_traces_by_adversary_seed_look_and_item() -> None:
    one = planted.trace([[0.0, 0.0], [0.1, 0.2], [0.3, 0.4]])
    two = planted.trace([[0.0, 0.0], [0.5, 0.6]])
    steps, table = curves([[one, two]])
    assert steps == STEPS
    assert table.shape == (1, 2, 5, 2)
    assert table[0, 0, 1].tolist() == [0.3, 0.4]
    assert table[0, 1, -1].tolist() == [0.5, 0.6]
    with pytest.raises(ValueError, match="failed"):
        curves([[planted.trace([[0.0]], status="failed")]])
