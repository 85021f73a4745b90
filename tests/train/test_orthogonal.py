"""Orthogonal steps: near the polar factor, and of the size of what they step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from titer.train.orthogonal import orthogonalise, relative


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (16, 16)])
def test_singular_values_come_near_one_in_the_same_frame(shape: tuple[int, int]) -> None:
    matrix = _normal(*shape)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalise(matrix)
    core = u.T @ found @ vt.T
    assert_close(core, torch.diag(core.diagonal()), rtol=0, atol=1e-4)
    assert 0.5 < float(core.diagonal().min()) <= float(core.diagonal().max()) < 1.3


def test_a_stretched_gradient_steps_alike() -> None:
    """What a spectral brake does to a gradient is what this takes out again."""
    matrix = _normal(6, 20)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    flat = (u * torch.full_like(s, 3.0)) @ vt
    stretched = (u * torch.tensor([30.0, 30.0, 30.0, 3.0, 3.0, 3.0])) @ vt

    def apart(one: torch.Tensor, two: torch.Tensor) -> float:
        return float((one / one.norm() - two / two.norm()).norm())

    before = apart(flat, stretched)
    assert before > 0.6
    assert apart(orthogonalise(flat), orthogonalise(stretched, 8)) < 0.5 * before


def test_every_tensor_is_moved_by_its_own_norm() -> None:
    weights = [
        nn.Parameter(scale * _normal(*shape)) for scale, shape in ((1e3, (4, 9)), (1e-3, (5,)))
    ]
    zero = nn.Parameter(torch.zeros(4))
    idle = nn.Parameter(torch.ones(3))
    for weight in (*weights, zero):
        weight.grad = 7.0 * _normal(*weight.shape)
    idle.grad = torch.zeros(3)
    relative([*weights, zero, idle, nn.Parameter(torch.ones(2))])
    for weight in weights:
        assert weight.grad is not None
        assert_close(weight.grad.norm(), weight.detach().norm())
    assert zero.grad is not None
    assert_close(zero.grad.norm(), torch.tensor(2e-6))
    assert idle.grad is not None
    assert not idle.grad.any()
