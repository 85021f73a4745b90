"""Sequences end to end in shared rows, so that little of a batch is padding.

G groups (the members of a cohort, or one), R rows a group, C tokens a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace

import numpy as np
import numpy.typing as npt

from titer.core.lm import Encoded

__all__ = ["fill", "layout"]

Array = npt.NDArray[np.int64]
Bins = list[list[int]]
"""Which sequences share a row, row by row."""

_LONGEST = 1024
"""No row is packed longer than this: its attention is paid for in full."""

_SHARING = (1, 1.5, 2, 3, 4, 6, 8, 12, 16)
"""How many sequences share a row, on average: what is tried."""


def _spread(lengths: Sequence[int], rows: int) -> Bins:
    """Sequences over rows, the longest first, each to the row that has least."""
    found: Bins = [[] for _ in range(rows)]
    load = [(0, place) for place in range(rows)]
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        used, place = load[0]
        found[place].append(index)
        heapreplace(load, (used + lengths[index], place))
    return found


def layout(groups: Sequence[Sequence[int]], width: int) -> tuple[int, list[Bins]]:
    """The row length C that costs least, and who sits in which row, group by group.

    ``groups`` are the lengths of each group's sequences; every group gets as many rows. Up to a
    factor a token costs 6 ``width`` in matrix products and C in attention.
    """
    most = max(map(len, groups))
    best: tuple[float, int, list[Bins]] | None = None
    for sharing in _SHARING:
        rows = -(-most // sharing)
        bins = [_spread(lengths, int(rows)) for lengths in groups]
        used = max(
            sum(lengths[index] for index in row)
            for lengths, group in zip(groups, bins, strict=True)
            for row in group
        )
        if best is not None and used > _LONGEST:
            break
        cost = rows * used * (6.0 * width + used)
        if best is None or cost < best[0]:
            best = cost, used, bins
        if rows == 1:
            break
    assert best is not None
    return best[1], best[2]


def fill(
    groups: Sequence[Sequence[Encoded]], length: int, bins: Sequence[Bins], pad: int, ignored: int
) -> tuple[Array, Array, Array, Array]:
    """The rows of all groups, group after group, every group with as many as the longest.

    Returns:
        int64 (G·R, C) each: token ids; labels, ``ignored`` where no loss is; positions, counted
        from each sequence's start; and which sequence of its group a token is of, −1 at padding.
    """
    rows = max(map(len, bins))
    ids = np.full((len(groups) * rows, length), pad, dtype=np.int64)
    labels = np.full_like(ids, ignored)
    positions = np.zeros_like(ids)
    owner = np.full_like(ids, -1)
    for place, (group, shared) in enumerate(zip(groups, bins, strict=True)):
        for at, members in enumerate(shared, place * rows):
            start = 0
            for index in members:
                row = group[index]
                end = start + len(row.ids)
                ids[at, start:end] = row.ids
                # What comes before a sequence's first token is a stranger: nothing predicts it.
                first = start + max(1, row.prompt)
                labels[at, first:end] = ids[at, first:end]
                positions[at, start:end] = np.arange(len(row.ids))
                owner[at, start:end] = index
                start = end
    return ids, labels, positions, owner
