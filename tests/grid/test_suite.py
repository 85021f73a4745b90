"""Suites are versioned values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from titer.core import catalogue
from titer.core.errors import UnknownName
from titer.grid.suite import SUITES, Row, suite


def test_the_hash_follows_everything_that_decides_a_number() -> None:
    quick = suite("quick")
    assert quick.digest() == suite("quick").digest()
    others = {
        replace(quick, cap=20).digest(),
        replace(quick, rows=quick.rows[:-1]).digest(),
        replace(quick, rows=(*quick.rows[:-1], Row(id="M05"))).digest(),
        replace(quick, task_steps=7).digest(),
        replace(quick, worst_case=True).digest(),
        suite("core").digest(),
    }
    assert len(others) == 6
    assert quick.digest() not in others


def test_rows_have_a_budget_for_each_size_and_a_cap_bounds_it() -> None:
    row = Row(id="S05")
    assert SUITES["core"].steps(row, 1_000_000) == 300
    assert SUITES["core"].steps(row, 8_000_000_000) == 2500
    assert replace(SUITES["core"], cap=20).steps(row, 1_000_000) == 20


def test_core_holds_the_table_as_far_as_the_methods_reach() -> None:
    listed = [row.id for row in SUITES["core"].rows]
    assert len(listed) == len(set(listed))
    known = set(catalogue.presets("attack"))
    # Not in the table: a network's edits, and demonstrations, which supply what they ask for.
    other = {row for row in known - set(listed) if row[0] != "L"}  # bypasses of locks
    assert other == {"N01", "N02", "N03", "I04"}


def test_quick_is_eight_adversaries_for_either_kind_of_hazard() -> None:
    for kind, own in (("k", "M05"), ("r", "I01")):
        rows = [
            row.id
            for row in SUITES["quick"].rows
            if kind in row.kinds and kind in row.preset()[1].domain
        ]
        assert rows == ["S03", "P02", "M01", "V01", "R03", "W04", "H03", own]


def test_an_unknown_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        suite("quik")
