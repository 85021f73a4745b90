"""Generalisation: one row of the matrix."""

from __future__ import annotations

import pytest
from made_traces import resist, study

from titer.pillars.generalisation import generalisation, share_point

GOOD = (0.9,) * 4


def test_row_of_the_matrix() -> None:
    made = study(strong=((0.25, 0.25, 0.25, 0.3), GOOD), weak=((0.9,) * 4, GOOD))
    strong, weak = resist(made, "strong").found, resist(made, "weak").found
    found = generalisation("A", {"A": strong, "B": weak}, ("A", "B"))
    assert found.in_domain.value == pytest.approx(1)
    assert found.cross_domain["A->B"].value == pytest.approx(0)
    assert found.off_diagonal_min == found.cross_domain["A->B"]
    assert found.cross_harm["A->B"].value == pytest.approx(0.9)


def test_cells_not_attacked() -> None:
    made = study()
    found = generalisation("A", {"A": resist(made, "base").found}, ("A", "B", "C"))
    assert set(found.cross_domain) == {"A->B", "A->C"}
    assert found.off_diagonal_min.value is None
    assert generalisation("A", {}, ("A",)).off_diagonal_min.note == "the study has one hazard"
    assert generalisation("A", {}, ("A",)).in_domain.value is None


def test_the_curve_over_shares_ends_with_the_whole() -> None:
    half = ((0.25, 0.25, 0.575, 0.6), GOOD)
    made = study(strong=((0.25, 0.25, 0.25, 0.3), GOOD), half=half, none=((0.9,) * 4, GOOD))
    strong, some, little = (resist(made, name).found for name in ("strong", "half", "none"))
    parts = [share_point(0.5, 12, 24, some), share_point(0.1, 2, 24, little)]
    found = generalisation("A", {"A": strong}, ("A",), parts)
    assert [(point.share, point.entities, point.total) for point in found.curve] == [
        (0.1, 2, 24),
        (0.5, 12, 24),
        (1.0, 24, 24),
    ]
    values = [point.r_star.value for point in found.curve]
    assert values[0] == pytest.approx(0)
    assert values[2] == found.in_domain.value == pytest.approx(1)
    assert 0.3 < (values[1] or 0) < 0.7
    assert all(point.r_star.n == 3 and point.r_star.low is not None for point in found.curve)
    assert found.curve[1].weak.value == pytest.approx(0.6)
    assert "not measured" not in found.note


def test_a_curve_that_was_not_measured_says_so() -> None:
    made = study()
    found = generalisation("A", {"A": resist(made, "base").found}, ("A",))
    assert found.curve == ()
    assert "not measured" in found.note
