"""Representation noising: its distance, its depths, its mask, and what a probe still reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import agrees, double
from tests.defences.test_booster import harm
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.repnoise import RepNoise, mmd, noised, through_depth
from titer.nn.head import final_norm
from titer.nn.hooks import residual_stream
from titer.nn.taps import outputs, sites, tapped
from titer.train.batches import IGNORED
from titer.train.harden import logits

MakeRun = Callable[..., Run]


def test_the_distance_by_a_slow_sum() -> None:
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(5, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    both = torch.cat([left, right + 1.0])
    apart = torch.tensor([[float((a - b) @ (a - b)) for b in both] for a in both])
    width = float(apart.sum()) / (10 * 9)
    kernel = sum(torch.exp(-apart / (width * k)) for k in (0.25, 0.5, 1.0, 2.0, 4.0))
    want = kernel[:5, :5].mean() + kernel[5:, 5:].mean() - 2 * kernel[:5, 5:].mean()
    assert float(mmd(left, right + 1.0)) == pytest.approx(float(want), rel=1e-5)
    assert float(mmd(left, left)) == pytest.approx(0.0, abs=1e-12)


def test_it_falls_as_activations_come_to_be_noise() -> None:
    draw = torch.Generator().manual_seed(1)
    noise, other = (torch.randn(32, 12, generator=draw) for _ in range(2))
    fixed = 3.0 + torch.randn(32, 12, generator=draw)
    found = [float(mmd((1 - k) * fixed + k * other, noise)) for k in (0.0, 0.5, 0.9, 1.0)]
    assert found == sorted(found, reverse=True)


def test_the_gradient_of_the_distance_holds_the_kernels_still() -> None:
    draw = torch.Generator().manual_seed(2)
    left, right = (torch.randn(4, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    left.requires_grad_(True)
    (got,) = torch.autograd.grad(mmd(left, right), left)
    both = torch.cat([left, right])
    apart = (both[:, None] - both[None]).pow(2).sum(-1)
    width = float(apart.detach().sum()) / (8 * 7)
    kernel = sum(torch.exp(-apart / (width * k)) for k in (0.25, 0.5, 1.0, 2.0, 4.0))
    slow = kernel[:4, :4].mean() + kernel[4:, 4:].mean() - 2 * kernel[:4, 4:].mean()
    (want,) = torch.autograd.grad(slow, left)
    assert_close(got, want)


def test_its_gradient_is_that_of_its_loss(make_run: MakeRun, watch: Any) -> None:
    method = RepNoise(noise=0.0, ascent=0.3, batch_size=4, retain_weight=0.4)
    seen = watch(method, double(), make_run(2))
    model, batch = seen.lm.model, seen.bundle["harmful"]
    norm = final_norm(model)

    def loss() -> torch.Tensor:
        with residual_stream(model) as stream:
            logits(model, batch)
        depth = through_depth(model, norm, stream, batch)
        found = harm(seen, "safe")() + 0.4 * harm(seen, "retain")()
        return found - 0.3 * torch.log1p(depth)

    agrees(seen, loss)


def test_the_last_depth_is_the_models_own_loss_and_the_first_token_counts(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    seen = watch(RepNoise(batch_size=4), lm, make_run(2))
    model, batch = seen.lm.model, seen.bundle["harmful"]
    with residual_stream(model) as stream:
        own = logits(model, batch)
    found = through_depth(model, final_norm(model), stream[-1:], batch)
    assert_close(found, harm(seen)())
    (slope,) = torch.autograd.grad(found, own, allow_unused=True, retain_graph=True)
    assert slope is None  # read anew from the state, not from the logits
    first = (batch.labels != IGNORED).int().argmax(-1) - 1
    (slope,) = torch.autograd.grad(
        through_depth(model, final_norm(model), stream, batch), stream[-1]
    )
    rows = torch.arange(len(first))
    assert float(slope[rows, first].norm(dim=-1).min()) > 0


def test_pairs_are_of_one_prompt(lm: LM, make_run: MakeRun, watch: Any) -> None:
    bundle = watch(RepNoise(batch_size=5), lm, make_run(2)).bundle
    assert bundle["safe"].ids == bundle["harmful"].ids
    assert not bundle["safe"].labels.equal(bundle["harmful"].labels)


@pytest.mark.slow
def test_activations_come_nearer_to_noise(lm: LM, make_run: MakeRun, watch: Any) -> None:
    def away(model: LM) -> float:
        seen = watch(RepNoise(batch_size=99), model, make_run(1))
        batch, places = seen.bundle["harmful"], sites(seen.lm.model, "mlp")
        modules = tapped(seen.lm.model, places)
        with torch.no_grad(), outputs(modules) as states:
            logits(seen.lm.model, batch)
            return float(noised(states, batch, torch.Generator().manual_seed(0)))

    out = RepNoise(noise=5.0, ascent=0.0, lr=1e-2, batch_size=14)(lm, make_run(40))
    assert away(out) < 0.8 * away(lm)
