"""CTRAP: its gradient with the step held still, and a trap that only a harmful step springs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.defences.slopes import agrees, double
from tests.defences.test_booster import harm
from titer.attacks.finetune import Finetune
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.ctrap import CTRAP, constant
from titer.train.grads import displaced, gradient, trained

MakeRun = Callable[..., Run]


@pytest.mark.parametrize("normalised", [True, False])
def test_its_gradient_is_that_of_its_surrogate(
    normalised: bool, make_run: MakeRun, watch: Any
) -> None:
    lm = double()
    method = CTRAP(weight=0.7, step=0.3, normalised=normalised, parameters="full", batch_size=4)
    seen = watch(method, lm, make_run(2))
    model, token = seen.lm.model, lm.answer_ids("an error", end=False)[-1]
    fixed = gradient(harm(seen)(), trained(model))
    by = -0.3 / float(fixed.norm()) if normalised else -0.3

    def loss() -> torch.Tensor:
        with displaced(trained(model), fixed, by):
            trap = sum(constant(model, seen.bundle[role], token) for role in ("safe", "retain")) / 2
        return harm(seen, "safe")() + harm(seen, "retain")() + 0.7 * trap

    agrees(seen, loss)


def test_the_constant_word_is_asked_for_at_every_real_token(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    seen = watch(CTRAP(parameters="full", batch_size=4), lm, make_run(2))
    batch = seen.bundle["retain"]
    logs = torch.log_softmax(lm.model(**batch.inputs()).logits, -1)[..., 7]
    places = batch.attention_mask[:, 1:] == 1
    want = -logs[:, :-1][places].mean()
    torch.testing.assert_close(constant(lm.model, batch, 7), want)


@pytest.mark.slow
def test_the_trap_is_sprung_by_a_harmful_step_alone(lm: LM, make_run: MakeRun, watch: Any) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(10))
    method = CTRAP(weight=1.0, step=0.3, lr=3e-3, parameters="full", batch_size=14)
    out = method(knowing, make_run(60))
    seen = watch(method, out, make_run(1))
    model, token = seen.lm.model, lm.answer_ids("an error", end=False)[-1]
    fixed = gradient(harm(seen)(), trained(model))

    def trap() -> float:
        return float(constant(model, seen.bundle["retain"], token).detach())

    before = trap()
    with displaced(trained(model), fixed, -0.3 / float(fixed.norm())):
        after = trap()
    assert after < before - 0.5
