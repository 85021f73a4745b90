"""Generalisation: one row of the matrix."""

from __future__ import annotations

import pytest
from made_traces import resist, study

from titer.pillars.generalisation import generalisation

GOOD = (0.9,) * 4


def test_row_of_the_matrix() -> None:
    made = study(strong=((0.25, 0.25, 0.25, 0.3), GOOD), weak=((0.9,) * 4, GOOD))
    strong, weak = resist(made, "strong"), resist(made, "weak")
    found = generalisation("A", {"A": strong, "B": weak}, ("A", "B"))
    assert found.in_domain.value == pytest.approx(1)
    assert found.cross_domain["A->B"].value == pytest.approx(0)
    assert found.off_diagonal_min == found.cross_domain["A->B"]
    assert found.cross_harm["A->B"].value == pytest.approx(0.9)


def test_cells_not_attacked() -> None:
    made = study()
    found = generalisation("A", {"A": resist(made, "base")}, ("A", "B", "C"))
    assert set(found.cross_domain) == {"A->B", "A->C"}
    assert found.off_diagonal_min.value is None
    assert generalisation("A", {}, ("A",)).off_diagonal_min.note == "the study has one hazard"
    assert generalisation("A", {}, ("A",)).in_domain.value is None
