"""VAA: shares of groups, the mixture, and who is vulnerable."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.defences.slopes import agrees, double
from tests.defences.test_booster import harm
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.vaa import VAA, _losses, exp3
from titer.train.grads import displaced, gradient, trained
from titer.train.harden import refusing

MakeRun = Callable[..., Run]
PLAIN = VAA(first=0.0, parameters="full", batch_size=4, radius=0.3)


def test_shares_sum_to_one_and_follow_the_loss() -> None:
    shares = exp3([0.5, 0.5], 1, 2.0, 0.1)
    assert sum(shares) == pytest.approx(1.0)
    want = 0.5 * torch.tensor(0.1 * 2.0 / 0.5).exp()
    assert shares[1] == pytest.approx(float(want / (0.5 + want)))
    assert exp3([0.5, 0.5], 0, 1e9, 1.0) == [0.9, pytest.approx(0.1)]


def test_equal_losses_leave_the_shares_even() -> None:
    rng, shares, seen = random.Random(0), [0.5, 0.5], []
    for _ in range(4000):
        shares = exp3(shares, 0 if rng.random() < shares[0] else 1, 1.0, 0.007)
        seen.append(shares[0])
    assert abs(sum(seen) / len(seen) - 0.5) < 0.1


def test_its_gradient_is_the_mixture(make_run: MakeRun, watch: Any) -> None:
    run = make_run(4)
    seen = watch(PLAIN, double(), run)
    run.charge(steps=1)  # a quarter of the way
    model, safe = seen.lm.model, harm(seen, "safe")
    fixed = gradient(safe(), trained(model))

    def loss() -> torch.Tensor:
        with displaced(trained(model), fixed, 0.3 / float(fixed.norm())):
            there = safe()
        return 0.75 * safe() + 0.25 * there

    agrees(seen, loss)


def test_who_is_vulnerable_is_found_by_a_harmful_fine_tune(lm: LM, make_run: MakeRun) -> None:
    run = make_run(20)
    safe = refusing(run.data.harmful)
    lost, kept = replace(PLAIN, first=0.5, proxy_lr=1e-2)._groups(lm, run, safe)
    assert run.spent.steps == 10
    assert sorted((*lost, *kept), key=lambda one: one.id) == sorted(safe, key=lambda one: one.id)
    again = make_run(20)
    assert replace(PLAIN, first=0.5, proxy_lr=1e-2)._groups(lm, again, safe)[0] == lost
    assert len(_losses(lm, safe)) == len(safe)
