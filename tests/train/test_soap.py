"""SOAP against AdamW where it must be AdamW, and under rotations, where it must not care."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from titer.train.optimisers import multiplier
from titer.train.soap import Soap


def _descend(build: object, start: Tensor, target: Tensor, steps: int = 25) -> Tensor:
    weight = nn.Parameter(start.clone())
    optimiser = build([weight])  # type: ignore[operator]
    for _ in range(steps):
        weight.grad = None
        ((weight - target) * torch.arange(1, 1 + target.shape[-1])).pow(2).sum().backward()
        optimiser.step()
    return weight.detach()


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


@pytest.mark.parametrize("shape", [(5,), (4, 6)])
def test_without_bases_it_is_adamw(shape: tuple[int, ...]) -> None:
    start, target = _normal(*shape, seed=1), _normal(*shape, seed=2)
    settings = {"lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 0.1}
    mine = _descend(lambda w: Soap(w, longest=0, **settings), start, target)  # type: ignore[arg-type]
    theirs = _descend(lambda w: torch.optim.AdamW(w, **settings), start, target)  # type: ignore[arg-type]
    assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def _rotation(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(_normal(size, size, seed=seed)).Q


def _turned(build: object, u: Tensor, v: Tensor, steps: int) -> Tensor:
    """Descend in coordinates turned by ``u`` and ``v``; the result, turned back."""
    target, scales = _normal(7, 7, seed=4), torch.arange(1.0, 8.0)
    weight = nn.Parameter(u @ _normal(7, 7, seed=3) @ v.T)
    optimiser = build([weight])  # type: ignore[operator]
    for _ in range(steps):
        weight.grad = None
        ((u.T @ weight @ v - target) * scales).pow(2).sum().backward()
        optimiser.step()
    return (u.T @ weight @ v).detach()


def test_it_does_not_care_how_a_matrix_is_turned_and_adamw_does() -> None:
    u, v = _rotation(7, 5), _rotation(7, 6)
    ways = {
        "soap": lambda w: Soap(w, lr=0.01, every=3),
        "adamw": lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.0),
    }
    apart = {
        name: float((_turned(way, u, v, 6) - _turned(way, torch.eye(7), torch.eye(7), 6)).norm())
        for name, way in ways.items()
    }
    assert apart["soap"] < 0.05 * apart["adamw"]


def test_held_rates_are_nothing_and_then_all() -> None:
    assert [multiplier("held", step, 6, 2) for step in range(6)] == [0, 0, 1, 1, 1, 1]


def test_where_gradients_are_correlated_it_gets_further_than_adamw() -> None:
    u, v = _rotation(8, 5), _rotation(8, 6)
    mixing = u @ torch.diag(torch.logspace(-2, 0, 8)) @ v.T
    target = _normal(6, 8, seed=7)

    def left(build: object) -> float:
        weight = nn.Parameter(torch.zeros(6, 8))
        optimiser = build([weight])  # type: ignore[operator]
        for _ in range(200):
            weight.grad = None
            loss = ((weight - target) @ mixing).pow(2).sum()
            loss.backward()
            optimiser.step()
        return float(((weight - target) @ mixing).detach().pow(2).sum())

    adamw = left(lambda w: torch.optim.AdamW(w, lr=0.1, weight_decay=0.0))
    assert left(lambda w: Soap(w, lr=0.1)) < 1e-3 * adamw


def test_rows_without_gradient_stay() -> None:
    """Words that no batch held: their row of an embedding is as it was."""
    weight = nn.Parameter(_normal(400, 16, seed=1))
    before, optimiser = weight.detach().clone(), Soap([weight], lr=0.1)
    for step in range(12):
        weight.grad = torch.zeros_like(weight)
        weight.grad[:5] = _normal(5, 16, seed=step)
        optimiser.step()
    assert_close(weight.detach()[5:], before[5:], rtol=0, atol=1e-3)
    assert float((weight.detach()[:5] - before[:5]).abs().max()) > 0.1
