"""Each failure of a game is flagged where it happens, and a sound game is not."""

from __future__ import annotations

import pytest

from titer.hypernet.watch import CO_ADAPTED, ONE_MODE, OSCILLATES, doubts, reversals

SOUND = [
    {"step": 10.0 * n, "success": 1 - n / 10, "rank": 2.5, "variety": 0.4, "fresh": 1 - n / 10}
    for n in range(11)
]


@pytest.mark.parametrize(
    ("values", "turns"),
    [
        ([], 0),
        ([0.5], 0),
        ([1, 0.8, 0.6, 0.3, 0], 0),
        ([0, 1, 0], 1),
        ([0, 1, 0, 1, 0], 3),
        ([0, 0.4, 0, 0.4, 0], 0),
        ([0, 0.3, 0.6, 0.9, 0.7, 0.4, 0.2], 1),
    ],
)
def test_reversals_are_counted_by_hand(values: list[float], turns: int) -> None:
    assert reversals(values) == turns


def test_a_sound_game_has_no_flag() -> None:
    assert doubts(SOUND, rank=4, reads=True) == []
    assert doubts([], rank=4, reads=True) == []


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"rank": 1.0}, ONE_MODE),
        ({"variety": 0.0}, ONE_MODE),
        ({"fresh": 1.0, "success": 0.1}, CO_ADAPTED),
    ],
)
def test_a_failure_is_flagged(change: dict[str, float], flag: str) -> None:
    assert doubts([{**row, **change} for row in SOUND], rank=4, reads=True) == [flag]


def test_swings_in_the_second_half_are_flagged_and_those_before_are_not() -> None:
    def swing(at: range) -> list[dict[str, float]]:
        return [{**row, "success": float(n % 2) if n in at else 0.0} for n, row in enumerate(SOUND)]

    quiet = [{k: v for k, v in row.items() if k != "fresh"} for row in swing(range(5, 11))]
    assert doubts(quiet, rank=4, reads=True) == [OSCILLATES]
    early = [{k: v for k, v in row.items() if k != "fresh"} for row in swing(range(5))]
    assert doubts(early, rank=4, reads=True) == []


def test_what_cannot_be_otherwise_is_no_fault() -> None:
    one = [{**row, "rank": 1.0, "variety": 0.0} for row in SOUND]
    assert doubts(one, rank=1, reads=False) == []
