"""MUDMAN: what is masked stays, how much is kept, and a fork that relearns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.testing import assert_close

from tests.defences.slopes import added, double
from tests.defences.test_booster import harm
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.mudman import MUDMAN
from titer.train.grads import displaced, gradient, trained

MakeRun = Callable[..., Run]
PLAIN = MUDMAN(fork=4, fork_lr=0.2, retain_lr=0.0, lr=0.1, batch_size=4, loss="ascent")


def test_without_fork_and_mask_it_is_normalised_grad_diff(make_run: MakeRun, watch: Any) -> None:
    method = replace(PLAIN, fork_lr=0.0, masked=False, retain_lr=0.05)
    seen = watch(method, double(), make_run(2))
    weights = trained(seen.lm.model)
    push = -gradient(harm(seen)(), weights)
    kept = gradient(harm(seen, "retain")(), weights)
    assert_close(added(seen), push / push.norm() + 0.5 * kept)


def test_the_gradient_is_taken_at_the_fork_after_its_step(make_run: MakeRun, watch: Any) -> None:
    seen = watch(replace(PLAIN, masked=False), double(), make_run(2))
    weights, bad = trained(seen.lm.model), harm(seen)
    before = seen.lm.digest()
    got = added(seen)
    assert seen.lm.digest() == before
    here = gradient(bad(), weights)
    with displaced(weights, here, -0.2):
        there = -gradient(bad(), weights)
    assert_close(got, there / there.norm())


def test_what_is_masked_does_not_move_and_half_is_kept(make_run: MakeRun, watch: Any) -> None:
    seen = watch(PLAIN, double(), make_run(2))
    weights = trained(seen.lm.model)
    mean = gradient(harm(seen, "retain")(), weights)
    got = added(seen)
    free = added(watch(replace(PLAIN, masked=False), double(), make_run(2)))
    objects = free.sign() != mean.sign()
    assert float(got[objects].abs().max()) == 0.0
    assert_close(got[~objects], free[~objects])
    both = (free != 0) & (mean != 0)
    assert 0.3 < float((~objects)[both].double().mean()) < 0.7


def test_the_fork_relearns_and_starts_anew(lm: LM, make_run: MakeRun, watch: Any) -> None:
    run = make_run(8)
    seen = watch(replace(PLAIN, fork_lr=0.02, fork=3), lm, run)
    losses = []
    for _ in range(4):
        losses.append(-seen.grad(seen.lm.model, seen.bundle)["loss"])
        run.charge(steps=1)
    assert losses[0] > losses[1] > losses[2]  # the model itself does not move here
    assert losses[3] == losses[0]


def test_a_step_is_both_updates(lm: LM, make_run: MakeRun, watch: Any) -> None:
    method = replace(PLAIN, retain_lr=0.05)
    seen = watch(method, lm, make_run(1))
    want = torch.cat([w.detach().flatten() for w in lm.model.parameters()]) - 0.1 * added(seen)
    out = method(lm, make_run(1))
    got = torch.cat([w.detach().flatten() for w in out.model.parameters()])
    assert_close(got, want, rtol=1e-4, atol=1e-6)  # and no clipping in between
