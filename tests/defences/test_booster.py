"""Booster: its gradient with the step held still, and what it is for a small step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.defences.slopes import added, agrees, double
from titer.attacks.finetune import Finetune
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.booster import Booster
from titer.train.grads import displaced, gradient, hessian_product, trained
from titer.train.harden import logits
from titer.train.objectives import cross_entropy

MakeRun = Callable[..., Run]


def harm(seen: Any, role: str = "harmful") -> Callable[[], torch.Tensor]:
    batch = seen.bundle[role]
    return lambda: cross_entropy(logits(seen.lm.model, batch), batch.labels)


@pytest.mark.parametrize("normalised", [True, False])
def test_its_gradient_is_that_of_its_surrogate(
    normalised: bool, make_run: MakeRun, watch: Any
) -> None:
    method = Booster(
        weight=2.0, step=0.3, normalised=normalised, refusal=0.5, retain_weight=0.7,
        parameters="full", batch_size=4,
    )  # fmt: skip
    seen = watch(method, double(), make_run(2))
    model, safe, kept, bad = seen.lm.model, harm(seen, "safe"), harm(seen, "retain"), harm(seen)
    fixed = gradient(bad(), trained(model))
    by = -0.3 / float(fixed.norm()) if normalised else -0.3

    def loss() -> torch.Tensor:
        with displaced(trained(model), fixed, by):
            ahead, declined = bad(), safe()
        return safe() + 0.7 * kept() + 2.0 * (bad() - ahead) + 0.5 * declined

    agrees(seen, loss)


def test_for_a_small_step_it_is_a_penalty_on_the_harmful_gradient(
    make_run: MakeRun, watch: Any
) -> None:
    base = Booster(weight=0.0, parameters="full", batch_size=4)
    plain = added(watch(base, double(), make_run(2)))
    seen = watch(replace(base, weight=1.0, step=1e-4), double(), make_run(2))
    got, weights = (added(seen) - plain) / 1e-4, trained(seen.lm.model)
    here = gradient(harm(seen)(), weights)
    unit = here / here.norm()
    want = hessian_product(harm(seen), weights, unit, form="difference", radius=1e-4)
    assert float(torch.cosine_similarity(got, want, dim=0)) > 0.999
    assert float(got.norm() / want.norm()) == pytest.approx(1.0, rel=0.01)


def test_weights_come_back_to_the_bit(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(Booster(step=1.0), lm, make_run(2))
    before = seen.lm.digest()
    seen.gradient()
    assert seen.lm.digest() == before


@pytest.mark.slow
def test_what_one_harmful_step_would_win_shrinks(lm: LM, make_run: MakeRun, watch: Any) -> None:
    """The method's own diagnostic, on the batch that it trains on."""
    knowing = Finetune(lr=1e-2)(lm, make_run(10))

    def gain(weight: float) -> float:
        method = Booster(weight=weight, lr=3e-3, parameters="full", batch_size=99)
        out = method(knowing, make_run(40))
        seen = watch(method if weight else Booster(parameters="full", batch_size=99), out,
                     make_run(1))  # fmt: skip
        weights, bad = trained(seen.lm.model), harm(seen)
        here = gradient(bad(), weights)
        with displaced(weights, here, -0.1 / float(here.norm())):
            ahead = float(bad().detach())
        return float(bad().detach()) - ahead

    assert gain(20.0) < 0.8 * gain(0.0)
