"""A relative gives a one-sided basis away; of a two-sided one it gives the spectrum."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from titer.nn.align import distance, match, procrustes, row_order


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _turn(size: int, seed: int) -> torch.Tensor:
    q, _ = torch.linalg.qr(_normal(size, size, seed=seed))
    return q


def _relative(weight: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    noise = _normal(*weight.shape, seed=9)
    return weight + share * noise * weight.norm() / noise.norm()


@pytest.mark.parametrize(("rows", "columns"), [(12, 40), (24, 24)])
def test_procrustes_finds_the_rotation_of_the_very_matrix(rows: int, columns: int) -> None:
    weight, turn = _normal(rows, columns), _turn(rows, 3)
    assert_close(procrustes(turn @ weight, weight), turn)


@pytest.mark.parametrize(("rows", "columns"), [(40, 12), (12, 40), (24, 24)])
def test_a_rotation_is_undone_by_a_relative_to_within_its_distance(rows: int, columns: int) -> None:
    weight = _normal(rows, columns)
    found = match(_turn(rows, 3) @ weight, _relative(weight))
    assert found.how == "turned"
    assert distance(found.weight_OI, weight) < 0.12


@pytest.mark.parametrize(("rows", "columns"), [(40, 12), (12, 40)])
def test_a_permutation_is_undone_exactly(rows: int, columns: int) -> None:
    weight = _normal(rows, columns)
    order = torch.eye(rows, dtype=torch.float64)[torch.randperm(rows)]
    relative = _relative(weight)
    assert torch.equal(row_order(order @ weight, relative), order)
    found = match(order @ weight, relative)
    assert found.how == "reordered"
    assert_close(found.weight_OI, weight)


def test_both_sides_leave_the_spectrum_and_fall_back_to_the_relative() -> None:
    weight = _normal(24, 24)
    locked = _turn(24, 1) @ weight @ _turn(24, 2).T
    assert_close(torch.linalg.svdvals(locked), torch.linalg.svdvals(weight))
    relative = _relative(weight)
    found = match(locked, relative)
    assert (found.how, found.left) == ("the relative's", None)
    assert_close(found.weight_OI, relative)


def test_what_is_near_already_stays_as_it_is() -> None:
    weight = _normal(8, 20)
    assert match(_relative(weight), weight).how == "as it is"
