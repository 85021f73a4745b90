"""Vectors of gradients, displaced weights and Hessian products against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.train import grads

A = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, -1.0], [0.5, -1.0, 4.0]]).double()
TARGET = torch.tensor([0.3, -0.7, 1.1]).double()


def _weights(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [
        nn.Parameter(torch.tensor([[1.0, -2.0]]).to(dtype)),
        nn.Parameter(torch.tensor([0.5]).to(dtype)),
    ]


def _bowl(weights: list[nn.Parameter]) -> torch.Tensor:
    x = torch.cat([weight.flatten() for weight in weights])
    return 0.5 * x @ A @ x


def _quartic(weights: list[nn.Parameter]) -> torch.Tensor:
    return sum((weight**4).sum() for weight in weights)  # type: ignore[return-value]


def test_the_gradient_is_a_vector_and_leaves_grad_alone() -> None:
    weights = _weights()
    x = grads.flat(weights)
    assert_close(grads.gradient(_bowl(weights), weights), A @ x)
    assert all(weight.grad is None for weight in weights)
    only_first = (weights[0] ** 2).sum()
    assert_close(
        grads.gradient(only_first, weights), torch.tensor([2.0, -4.0, 0.0], dtype=torch.float64)
    )
    assert not bool(grads.gradient(torch.tensor(3.0), weights).any())


def test_depositing_adds_to_what_is_there() -> None:
    weights = _weights()
    _bowl(weights).backward()
    grads.deposit(weights, torch.tensor([1.0, 2.0, 3.0]).double(), scale=10.0)
    got = grads.flat([weight.grad for weight in weights if weight.grad is not None])
    assert_close(got, A @ grads.flat(weights) + torch.tensor([10.0, 20.0, 30.0]).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_displaced_weights_come_back_bitwise(dtype: torch.dtype) -> None:
    weights = [
        nn.Parameter(torch.randn(7, 5).to(dtype) * 1e-3),
        nn.Parameter(torch.randn(4).to(dtype)),
    ]
    before = [weight.detach().clone() for weight in weights]
    vector = torch.randn(39).to(torch.float64 if dtype == torch.float64 else torch.float32)

    def fail() -> None:
        with grads.displaced(weights, vector, 0.3):
            want = before[0] + 0.3 * vector[:35].view(7, 5)
            assert_close(weights[0].detach(), want.to(dtype))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert all(torch.equal(now, was) for now, was in zip(weights, before, strict=True))


def test_statistics_of_half_precision_weights_are_in_single_precision() -> None:
    weights = _weights(torch.bfloat16)
    assert grads.flat(weights).dtype == torch.float32
    assert grads.gradient(_quartic(weights), weights).dtype == torch.float32
    grads.deposit(weights, torch.ones(3))
    assert weights[0].grad is not None
    assert weights[0].grad.dtype == torch.bfloat16


@pytest.mark.parametrize("form", ["exact", "difference"])
def test_a_hessian_product_is_that_of_the_closed_form(form: grads.Form) -> None:
    weights, vector = _weights(), torch.tensor([0.2, 1.0, -3.0]).double()
    bowl = grads.hessian_product(lambda: _bowl(weights), weights, vector, form=form)
    assert_close(bowl, A @ vector)
    x = grads.flat(weights)
    quartic = grads.hessian_product(
        lambda: _quartic(weights), weights, vector, form=form, radius=1e-6
    )
    assert_close(quartic, 12 * x**2 * vector, rtol=1e-5, atol=1e-8)
    nothing = grads.hessian_product(lambda: _bowl(weights), weights, 0 * vector, form=form)
    assert not bool(nothing.any())


def test_the_error_of_a_difference_falls_with_the_radius() -> None:
    weights, vector = _weights(), torch.tensor([0.2, 1.0, -3.0]).double()
    want = 12 * grads.flat(weights) ** 2 * vector

    def error(radius: float) -> float:
        got = grads.hessian_product(lambda: _quartic(weights), weights, vector, radius=radius)
        return float((got - want).norm())

    assert error(1e-3) == pytest.approx(error(1e-2) / 10, rel=0.05)


def test_the_slope_of_least_squares_along_the_weights() -> None:
    """g = 2 E[f (f − y)] with f = xᵀθ: the radial derivative of a squared error."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 3, generator=draw).double(), torch.randn(50, generator=draw).double()
    theta = nn.Parameter(TARGET.clone())
    f = (x @ theta).detach()
    want = float((2 * f * (f - y)).mean())

    def loss() -> torch.Tensor:
        return ((x @ theta - y) ** 2).mean()

    assert grads.slope(loss, [theta], grads.flat([theta]), 1e-3) == pytest.approx(want, rel=1e-9)
    vector = grads.gradient(loss(), [theta])
    assert float(vector @ theta.detach()) == pytest.approx(want, rel=1e-12)
    assert grads.slope(loss, [theta], torch.zeros(3).double(), 1e-3) == 0.0


def test_auto_is_a_difference_but_for_half_precision() -> None:
    assert not grads.exact("auto", _weights(torch.float32))
    assert grads.exact("auto", _weights(torch.bfloat16))
    assert grads.exact("exact", _weights())
    assert not grads.exact("difference", _weights(torch.bfloat16))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_has_a_second_derivative(architecture: grads.Any) -> None:
    lm = tiny_lm(architecture)
    weights = grads.trained(lm.model)
    # No padding token: its embedding row takes no gradient, though the loss depends on it.
    pad = lm.tokenizer.pad_token_id
    ids = torch.tensor([token for token in range(25) if token != pad][:24]).reshape(2, 12)

    def loss() -> torch.Tensor:
        return lm.model(input_ids=ids, use_cache=False).logits.float().logsumexp(-1).mean()

    vector = torch.randn(grads.flat(weights).shape, generator=torch.Generator().manual_seed(0))
    with grads.double_backward(lm.model):
        double = grads.hessian_product(loss, weights, vector, form="exact")
    single = grads.hessian_product(loss, weights, vector, form="difference", radius=3e-4)
    assert float((double - single).norm() / double.norm()) < 0.05


def test_dropout_is_off_inside_still() -> None:
    model = nn.Dropout(0.5).train()
    with grads.still(model):
        assert bool((model(torch.ones(50)) == 1).all())
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", ["auto", "exact", "difference"])
def test_adding_a_hessian_product_is_depositing_it(dtype: torch.dtype, form: grads.Form) -> None:
    vector = torch.tensor([1.0, -1.0, 2.0]).to(torch.promote_types(dtype, torch.float32))

    def added(do: Callable[[list[nn.Parameter], torch.Tensor], None]) -> list[torch.Tensor]:
        weights = _weights(dtype)
        (weights[0].sum() * 2.0).backward()
        do(weights, grads.gradient(_quartic(weights), weights))
        return [w.grad.float() for w in weights if w.grad is not None]

    def straight(weights: list[nn.Parameter], here: torch.Tensor) -> None:
        before = [weight.detach().clone() for weight in weights]
        grads.add_hessian_product(
            lambda: _quartic(weights), weights, vector, scale=-0.7, here=here, form=form
        )
        assert all(torch.equal(w, was) for w, was in zip(weights, before, strict=True))

    def by_way_of_a_vector(weights: list[nn.Parameter], here: torch.Tensor) -> None:
        product = grads.hessian_product(
            lambda: _quartic(weights), weights, vector, form=form, here=here
        )
        grads.deposit(weights, product, -0.7)

    for one, two in zip(added(straight), added(by_way_of_a_vector), strict=True):
        assert_close(one, two, rtol=1e-3, atol=1e-2 if dtype == torch.float32 else 1e-6)


def test_adding_along_nothing_adds_nothing() -> None:
    weights = _weights()
    here = grads.gradient(_quartic(weights), weights)
    grads.add_hessian_product(
        lambda: _quartic(weights), weights, torch.zeros_like(here), scale=1.0, here=here
    )
    assert all(weight.grad is None for weight in weights)
