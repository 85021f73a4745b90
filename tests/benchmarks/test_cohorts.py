"""The cohort benchmark measures the same work on every side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks._peers import SKIP, Clock, Size, build, by_loop, by_titer, by_trainer, rows

from benchmarks import cohorts

TINY = Size(width=16, hidden=32, layers=1, heads=2, words=50, sequences=2, tokens=8)


def test_rows_are_the_same_for_a_seed_and_half_supervised() -> None:
    first, again, other = rows(TINY, 0), rows(TINY, 0), rows(TINY, 1)
    assert first == again != other
    assert {len(row.ids) for _, row in first} == {8}
    assert {row.prompt for _, row in first} == {4}


def test_a_clock_leaves_out_the_first_steps() -> None:
    clock = Clock(walls=[0.0, 9.0, 18.0, 20.0, 21.0, 22.0], cpus=[0.0, 0.0, 0.0, 5.0, 5.5, 6.0])
    assert SKIP == 3
    assert clock.sample().wall == 1.0
    assert clock.sample(members=2).cpu == 0.25


@pytest.mark.parametrize("which", ["lora", "full"])
def test_every_side_trains(which: Any) -> None:
    lm = build(TINY)
    before = lm.digest()
    for sample in (by_loop(lm, which, TINY, 2), by_titer(lm, which, TINY, 2, [1, 3])):
        assert sample.wall > 0
        assert sample.cpu > 0
    assert lm.digest() == before


def test_the_trainer_trains() -> None:
    pytest.importorskip("accelerate")
    lm = build(TINY)
    before = lm.digest()
    assert by_trainer(lm, "lora", TINY, 2).wall > 0
    assert lm.digest() == before


def test_figures_of_grouping_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks._peers as peers

    monkeypatch.setitem(peers.SIZES, "XS", TINY)
    threads = torch.get_num_threads()
    figures = cohorts.measure(["auto", "machine"], ["XS"], [1], 1, 2)
    torch.set_num_threads(threads)
    assert [figure.against for figure in figures] == ["plain loop", "plain loop", ""]
    assert all(figure.median > 0 for figure in figures)
