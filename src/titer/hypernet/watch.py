"""Watching a game for the failures of adversarial training: one trick for all, and going round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["CO_ADAPTED", "ONE_MODE", "OSCILLATES", "doubts", "reversals"]

ONE_MODE = "one-mode-adversary"
"""The adversary has a single trick: its updates are of rank one, though more was allowed, or it
writes the same patch whatever it reads."""

OSCILLATES = "game-oscillates"
"""The players chase each other round: success swings to and fro and does not settle."""

CO_ADAPTED = "fresh-adversary-wins"
"""A new adversary succeeds where the one that was trained along fails: the defence has learnt its
partner and not the task."""

_SWING, _OFTEN = 0.5, 3
_SAME, _SINGLE, _BETTER = 0.02, 1.1, 0.25


def reversals(values: Sequence[float], swing: float = _SWING) -> int:
    """How often a series turns back after a move of at least ``swing``: 0 for a monotone one.

    Smaller moves are noise and turn nothing; a series that rises, falls and rises again by
    ``swing`` has 2.
    """
    if not values:
        return 0
    low = high = values[0]
    up: bool | None = None
    turns = 0
    for value in values[1:]:
        low, high = min(low, value), max(high, value)
        if up is not False and high - value >= swing:
            turns += up is True
            up, low, high = False, value, value
        elif up is not True and value - low >= swing:
            turns += up is False
            up, low, high = True, value, value
    return turns


def doubts(course: Sequence[Mapping[str, float]], *, rank: int, reads: bool) -> list[str]:
    """Flags for a game, from the second half of its course, where it should have settled.

    Args:
        course: rows with ``success``, ``rank``, ``variety`` and, in some, ``fresh``.
        rank: the rank that the edit allows; 1 can have no more than one trick.
        reads: whether the adversary's patch depends on what it is asked.
    """
    late = list(course[len(course) // 2 :])
    if len(late) < 2:
        return []
    found: list[str] = []

    def middle(name: str) -> float | None:
        values = sorted(row[name] for row in late if name in row)
        return values[len(values) // 2] if values else None

    single, same = middle("rank"), middle("variety")
    if (rank > 1 and single is not None and 0 < single < _SINGLE) or (
        reads and same is not None and same < _SAME
    ):
        found.append(ONE_MODE)
    if reversals([row["success"] for row in late if "success" in row]) >= _OFTEN:
        found.append(OSCILLATES)
    gaps = [row["fresh"] - row["success"] for row in late if "fresh" in row]
    if gaps and sum(gaps) / len(gaps) > _BETTER:
        found.append(CO_ADAPTED)
    return found
