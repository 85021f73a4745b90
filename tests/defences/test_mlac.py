"""MLAC: GradDiff without an attacker, and the gradient of the whole unrolled objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added, agrees, double
from tests.defences.test_booster import harm
from titer.core.method import Run
from titer.defences.mlac import MLAC, adapted
from titer.train.grads import displaced, gradient, trained

MakeRun = Callable[..., Run]
PLAIN = MLAC(inner=2, attacker="sgd", inner_lr=1e-2, weight=0.5, batch_size=4, hyper_lr=0.0)


def test_without_an_attacker_it_is_grad_diff(make_run: MakeRun, watch: Any) -> None:
    seen = watch(replace(PLAIN, inner=0), double(), make_run(2))
    weights = trained(seen.lm.model)
    want = gradient(harm(seen, "retain")() - 0.5 * harm(seen, "held")(), weights)
    assert_close(added(seen), want)


def _walked(seen: Any, kind: str, rate: float) -> torch.Tensor:
    """Slowly: the mean loss along an attacker's steps, each by hand."""
    weights = trained(seen.lm.model)
    kept = [weight.detach().clone() for weight in weights]
    losses = [harm(seen, "held")().detach()]
    first = second = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64)
    for k in (1, 2):
        with torch.enable_grad():
            here = gradient(harm(seen, f"attack {k - 1}")(), weights)
        way = here
        if kind == "adam":
            first, second = 0.9 * first + 0.1 * here, 0.999 * second + 0.001 * here**2
            way = first / (1 - 0.9**k) / (second / (1 - 0.999**k) + 1e-8).sqrt()
        moved = torch.cat([w.detach().flatten() for w in weights]) - rate * way
        with torch.no_grad():
            for weight, part in zip(
                weights, moved.split([w.numel() for w in weights]), strict=True
            ):
                weight.copy_(part.view_as(weight))
        losses.append(harm(seen, "held")().detach())
    with torch.no_grad():
        for weight, was in zip(weights, kept, strict=True):
            weight.copy_(was)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_its_gradient_is_that_of_the_whole_way(kind: Any, make_run: MakeRun, watch: Any) -> None:
    seen = watch(replace(PLAIN, attacker=kind), double(), make_run(2))
    # Adam's first step is nearly a sign, so that a difference of losses is coarse.
    tolerance = 1e-5 if kind == "sgd" else 1e-2
    agrees(seen, lambda: harm(seen, "retain")() - 0.5 * _walked(seen, kind, 1e-2), tolerance)


def test_for_small_rates_first_order_will_do(make_run: MakeRun, watch: Any) -> None:
    def apart(rate: float) -> float:
        seen = watch(replace(PLAIN, inner_lr=rate), double(), make_run(2))
        weights, got = trained(seen.lm.model), added(seen)
        here = gradient(harm(seen, "attack 0")(), weights)
        total = gradient(harm(seen, "held")(), weights)
        with displaced(weights, here, -rate):
            total = total + gradient(harm(seen, "held")(), weights)
            on = gradient(harm(seen, "attack 1")(), weights)
        with displaced(weights, here + on, -rate):
            total = total + gradient(harm(seen, "held")(), weights)
        want = gradient(harm(seen, "retain")(), weights) - 0.5 * total / 3
        return float((got - want).norm() / want.norm())

    assert apart(1e-5) < 1e-3
    assert apart(1e-5) < 0.01 * apart(1e-2)


def test_the_attackers_rate_learns_the_other_way(make_run: MakeRun, watch: Any) -> None:
    seen = watch(PLAIN, double(), make_run(2))
    own = dict(seen.lm.model.named_parameters())
    steps = [seen.bundle["attack 0"], seen.bundle["attack 1"]]
    rate = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
    value = adapted(seen.lm.model, own, steps, seen.bundle["held"], rate, "sgd")
    (slope,) = torch.autograd.grad(value, rate)
    higher = adapted(seen.lm.model, own, steps, seen.bundle["held"], rate + 1e-6, "sgd")
    assert float(slope) == pytest.approx(float((higher - value).detach()) / 1e-6, rel=1e-2)
    assert float(slope) < 0  # a higher rate adapts further: the attacker will raise it
