"""Policy gradients against closed forms, finite differences and whole enumerations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from titer.train.policy import (
    batch_advantage,
    clipped_surrogate,
    dpo,
    entropy,
    group_advantage,
    ipo,
    k1,
    k3,
    leave_one_out,
    over_tokens,
)

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.2, 0.4, 0.6, 0.8]], dtype=torch.float64)


def test_a_group_is_normalised_by_its_own_mean_and_deviation() -> None:
    got = group_advantage(REWARDS)
    assert_close(got[0], torch.tensor([1.0, -1.0, -1.0, 1.0]).double(), rtol=1e-5, atol=0)
    assert_close(got[1].std(correction=0), torch.tensor(1.0).double(), rtol=1e-4, atol=0)
    # Scale and place of the rewards do not matter.
    assert_close(group_advantage(7 * REWARDS - 3), got, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("advantage", [group_advantage, leave_one_out, batch_advantage])
def test_equal_rewards_say_nothing(advantage) -> None:
    assert_close(advantage(torch.full((3, 4), 0.1)), torch.zeros(3, 4), rtol=0, atol=1e-1)
    assert float(group_advantage(torch.full((3, 4), 0.25)).abs().max()) == 0.0


def test_the_baseline_is_the_mean_of_the_others() -> None:
    got = leave_one_out(REWARDS)
    for row, rewards in enumerate(REWARDS):
        for place in range(4):
            others = [float(value) for other, value in enumerate(rewards) if other != place]
            assert float(got[row, place]) == pytest.approx(float(rewards[place]) - sum(others) / 3)


def test_a_batch_is_normalised_as_one() -> None:
    got = batch_advantage(REWARDS)
    want = (REWARDS - REWARDS.mean()) / REWARDS.std(correction=0)
    assert_close(got, want, rtol=1e-5, atol=0)
    assert float(got.mean()) == pytest.approx(0.0, abs=1e-9)


def test_on_policy_the_surrogate_s_gradient_is_the_policy_gradient() -> None:
    logp = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    advantage = torch.tensor([[2.0], [-1.0]])
    clipped_surrogate(logp, logp.detach(), advantage, 0.2, 0.2).sum().backward()
    assert_close(logp.grad, torch.tensor([[-2.0, -2.0], [1.0, 1.0]]))


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.1, 1.0, True),
        (1.3, 1.0, False),  # good already made likelier: stop
        (0.7, 1.0, True),  # good made less likely: mend
        (0.7, -1.0, False),
        (1.3, -1.0, True),
    ],
)
def test_the_ratio_is_clipped_on_the_side_that_gains(
    ratio: float, advantage: float, gradient: bool
) -> None:
    old = torch.tensor([[-2.0]])
    logp = (old + math.log(ratio)).requires_grad_()
    loss = clipped_surrogate(logp, old, torch.tensor([[advantage]]), 0.2, 0.2)
    loss.sum().backward()
    bound = ratio if gradient else min(max(ratio, 0.8), 1.2)
    assert float(loss.detach()) == pytest.approx(-bound * advantage, rel=1e-5)
    assert float(logp.grad) == pytest.approx(-ratio * advantage if gradient else 0.0, rel=1e-5)


def test_the_two_bounds_are_apart() -> None:
    old, logp = torch.zeros(1, 1), torch.full((1, 1), math.log(1.25))
    up = torch.ones(1, 1)
    assert float(clipped_surrogate(logp, old, up, 0.2, 0.28)) == pytest.approx(-1.25)
    assert float(clipped_surrogate(logp, old, up, 0.2, 0.2)) == pytest.approx(-1.2)


def test_both_estimators_average_to_the_divergence() -> None:
    draw = torch.Generator().manual_seed(0)
    p, q = (torch.randn(7, generator=draw).log_softmax(-1) for _ in range(2))
    want = float((p.exp() * (p - q)).sum())
    for estimator in (k1, k3):
        assert float((p.exp() * estimator(p, q)).sum()) == pytest.approx(want, rel=1e-5)
    assert float(k3(p, q).min()) >= 0.0 > float(k1(p, q).min())
    assert float(k3(p, p).abs().max()) == 0.0


def test_entropy_of_known_policies() -> None:
    flat, sure = torch.zeros(1, 2, 8), torch.tensor([[[50.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    assert entropy(flat).tolist() == [pytest.approx([math.log(8)] * 2)]
    assert entropy(sure).tolist() == [pytest.approx([0.0, math.log(3)], abs=1e-6)]


def test_three_ways_to_weigh_tokens() -> None:
    values = torch.tensor([[1.0, 2.0, 99.0], [6.0, 99.0, 99.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert float(over_tokens(values, mask, "row")) == pytest.approx((1.5 + 6) / 2)
    assert float(over_tokens(values, mask, "token")) == pytest.approx(9 / 3)
    assert float(over_tokens(values, mask, "sum")) == pytest.approx(9 / 2)


# -- the exact gradient of a small policy ---------------------------------------------------------


def _policy() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of six actions, their rewards, and a reference, double precision."""
    draw = torch.Generator().manual_seed(3)
    theta = torch.randn(6, generator=draw, dtype=torch.float64, requires_grad=True)
    rewards = torch.rand(6, generator=draw, dtype=torch.float64)
    return theta, rewards, torch.randn(6, generator=draw, dtype=torch.float64).log_softmax(-1)


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_leave_one_out_is_unbiased_over_every_pair_of_actions(beta: float) -> None:
    """The expected gradient over all 36 pairs is that of reward less divergence."""
    theta, rewards, reference = _policy()
    logs = theta.log_softmax(-1)
    kl = (logs.exp() * (logs - reference)).sum()
    (want,) = torch.autograd.grad((logs.exp() * rewards).sum() - beta * kl, theta)
    got = torch.zeros_like(want)
    for one in range(6):
        for two in range(6):
            logp = theta.log_softmax(-1)[[one, two]]
            paid = rewards[[one, two]] - beta * k1(logp.detach(), reference[[one, two]])
            advantage = leave_one_out(paid[None]).view(-1, 1)
            each = clipped_surrogate(logp[:, None], logp.detach()[:, None], advantage, 0.2, 0.2)
            loss = over_tokens(each, torch.ones_like(each), "sum")
            (grad,) = torch.autograd.grad(loss, theta)
            got -= float(logp.detach().sum().exp()) * grad
    assert_close(got, want, rtol=1e-9, atol=1e-12)


# -- preferences ----------------------------------------------------------------------------------


def test_dpo_by_hand() -> None:
    chosen, rejected = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    want = (math.log1p(math.exp(-0.5 * 2.0)) + math.log(2.0)) / 2
    assert float(dpo(chosen, rejected, 0.5)) == pytest.approx(want)


def test_ipo_has_its_floor_at_the_margin() -> None:
    margin = torch.tensor([2.5])
    assert float(ipo(margin, torch.zeros(1), 0.2)) == 0.0
    assert float(ipo(margin + 1, torch.zeros(1), 0.2)) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", [dpo, ipo])
def test_preference_gradients_against_finite_differences(loss) -> None:
    draw = torch.Generator().manual_seed(1)
    sides = torch.randn(2, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda both: loss(both[0], both[1], 0.3), (sides,))
    loss(sides[0], sides[1], 0.3).backward()
    assert_close(sides.grad[0], -sides.grad[1])  # what one side gains, the other loses


def test_a_won_pair_pulls_no_more_under_dpo() -> None:
    far = torch.tensor([80.0], requires_grad=True)
    dpo(far, torch.zeros(1), 1.0).backward()
    assert float(far.grad.abs()) < 1e-6
