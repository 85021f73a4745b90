"""SEAM: the gradient of its cosine against a double backward, and where it drives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added, agrees, double
from tests.defences.test_booster import harm
from titer.attacks.finetune import Finetune
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.seam import SEAM
from titer.train.grads import gradient, trained

MakeRun = Callable[..., Run]
PLAIN = SEAM(batch_size=4, opposed=0.5, form="exact", retain_weight=0.3)


def cosine(seen: Any) -> torch.Tensor:
    weights = trained(seen.lm.model)
    found = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(harm(seen, role)(), weights, create_graph=True)
            ]
        )
        for role in ("attack", "benign")
    ]
    return torch.cosine_similarity(found[0], found[1], dim=0)


def test_its_gradient_is_that_of_its_loss(make_run: MakeRun, watch: Any) -> None:
    seen = watch(PLAIN, double(), make_run(2))

    def loss() -> torch.Tensor:
        with torch.enable_grad():
            across = cosine(seen).detach()
        plain = harm(seen, "safe")() + 0.3 * harm(seen, "retain")()
        return plain - torch.log1p(harm(seen)()) + 0.5 * across

    agrees(seen, loss, 1e-5)


def test_the_difference_agrees_with_the_double_backward(make_run: MakeRun, watch: Any) -> None:
    base = added(watch(replace(PLAIN, opposed=0.0), double(), make_run(2)))
    seen = watch(replace(PLAIN, form="difference", radius=1e-4), double(), make_run(2))
    want = 0.5 * gradient(cosine(seen), trained(seen.lm.model))
    got = added(seen) - base
    assert float((got - want).norm() / want.norm()) < 1e-2


def test_the_cosine_ignores_the_pairs_of_the_other_terms(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    bundle = watch(PLAIN, lm, make_run(2)).bundle
    assert bundle["safe"].ids == bundle["harmful"].ids
    assert bundle["attack"].ids != bundle["harmful"].ids
    assert bundle["benign"].ids != bundle["retain"].ids
    off = watch(replace(PLAIN, opposed=0.0), lm, make_run(2))
    assert set(off.bundle.parts) == {"safe", "harmful", "retain"}
    plain = harm(off, "safe")() + 0.3 * harm(off, "retain")() - torch.log1p(harm(off)())
    want = gradient(plain, trained(off.lm.model))
    assert_close(added(off), want, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_gradients_come_to_oppose(lm: LM, make_run: MakeRun, watch: Any) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(10))
    method = SEAM(batch_size=14, lr=1e-3, unlearn=0.0, refusals=0.0, opposed=1.0)
    out = method(knowing, make_run(40))
    found = [float(cosine(watch(method, one, make_run(1))).detach()) for one in (knowing, out)]
    assert found[1] < found[0] - 0.3
