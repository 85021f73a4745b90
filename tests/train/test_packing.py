"""Sequences in shared rows: all of them, once each, and cheaply."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from titer.core.lm import Encoded
from titer.train.packing import fill, layout

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=24)


@given(st.lists(LENGTHS, min_size=1, max_size=5), st.sampled_from([16, 128, 1024]))
def test_every_sequence_has_one_place_and_fits(groups: list[list[int]], width: int) -> None:
    length, bins = layout(groups, width)
    assert len({len(rows) for rows in bins}) == 1
    for lengths, rows in zip(groups, bins, strict=True):
        assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
        assert max(sum(lengths[index] for index in row) for row in rows) <= length


@given(LENGTHS)
def test_what_is_filled_can_be_read_back(lengths: list[int]) -> None:
    rows = [
        Encoded(tuple(range(100 * n, 100 * n + length)), length // 2)
        for n, length in enumerate(lengths)
    ]
    width, bins = layout([lengths], 64)
    ids, labels, positions, owner = fill([rows], width, bins, pad=7, ignored=-100)
    for index, row in enumerate(rows):
        mine = owner == index
        assert ids[mine].tolist() == list(row.ids)
        assert positions[mine].tolist() == list(range(len(row.ids)))
        learnt = labels[mine] != -100
        assert learnt.tolist() == [place >= max(1, row.prompt) for place in range(len(row.ids))]
    assert set(ids[owner < 0].tolist()) <= {7}
    assert np.all(labels[owner < 0] == -100)


def test_a_group_that_needs_fewer_rows_gets_as_many() -> None:
    length, bins = layout([[30, 30, 30, 30], [5]], 16)
    assert len(bins[0]) == len(bins[1])
    assert length >= 30


@pytest.mark.parametrize(("members", "most"), [(1, 0.07), (4, 0.13)])
def test_little_is_padding(members: int, most: float) -> None:
    """Batches of sixteen sequences as long as the testbed's."""
    rng = random.Random(0)
    real = room = 0
    for _ in range(50):
        groups = [[rng.randint(10, 23) for _ in range(16)] for _ in range(members)]
        length, bins = layout(groups, 128)
        real += sum(map(sum, groups))
        room += members * len(bins[0]) * length
    assert 1 - real / room < most


def test_long_sequences_keep_a_row_each() -> None:
    length, bins = layout([[900, 1000, 950]], 128)
    assert length == 1000
    assert sorted(map(len, bins[0])) == [1, 1, 1]
