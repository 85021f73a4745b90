"""SAM and its relatives: nothing at nothing, the right point, and a real gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.grad_diff import GradDiff
from titer.defences.npo import NPO
from titer.defences.rmu import RMU
from titer.defences.sam import SAM
from titer.train.grads import displaced, flat, gradient, trained

MakeRun = Callable[..., Run]


def _vector(seen: Any) -> Tensor:
    found = seen.gradient()
    return flat([found.get(n, torch.zeros_like(w)) for n, w in seen.lm.model.named_parameters()])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "off",
    [
        {"rho": 0.0},
        {"variant": "gradient_norm", "weight": 0.0},
        {"variant": "curvature", "weight": 0.0},
    ],
)
@pytest.mark.parametrize("parameters", ["full", "lora"])
def test_at_nothing_it_is_its_base_to_the_bit(
    architecture: Any, off: Any, parameters: Any, make_run: MakeRun
) -> None:
    lm, base = tiny_lm(architecture), NPO(lr=1e-3, parameters=parameters)
    plain = base(lm, make_run(3))
    assert SAM(base=base, **off)(lm, make_run(3)).digest() == plain.digest()
    on = {**off, "rho": 0.1, "weight": 1.0}
    assert SAM(base=base, **on)(lm, make_run(3)).digest() != plain.digest()


@pytest.mark.parametrize("base", [NPO, GradDiff])
def test_the_forget_gradient_is_taken_uphill_and_the_retain_gradient_here(
    base: Any, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    method, rho = base(), 0.3
    terms = method.terms(lm, make_run(1))
    seen = watch(SAM(base=method, rho=rho), lm, make_run(1))
    got, model, bundle = _vector(seen), seen.lm.model, seen.bundle
    weights = trained(model)
    here = gradient(terms.forget(model, bundle["forget"]), weights)
    kept = gradient(terms.retain(model, bundle["retain"]), weights)
    before = float(terms.forget(model, bundle["forget"]).detach())
    with displaced(weights, here, rho / float(here.norm())):
        loss = terms.forget(model, bundle["forget"])
        assert float(loss.detach()) > before
        there = gradient(loss, weights)
    assert_close(got, there + kept, rtol=1e-3, atol=1e-5)
    assert float((there - here).norm()) > 1e-3 * float(here.norm())


def test_only_what_the_base_trains_moves(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(SAM(base=RMU(), rho=0.3), lm, make_run(1))
    assert {name.rsplit(".", 2)[1] for name in seen.gradient()} == {"down_proj"}


def _penalised(seen: Any, terms: Any, variant: str, rho: float) -> Tensor:
    """The variant's penalty by a double backward, directions held constant."""
    model, batch = seen.lm.model, seen.bundle["forget"]
    weights = trained(model)

    def slopes() -> list[Tensor]:
        loss = terms.forget(model, batch)
        return list(torch.autograd.grad(loss, weights, create_graph=True))

    here = torch.cat([part.flatten() for part in slopes()])
    if variant == "gradient_norm":
        return gradient(here.norm(), weights)
    fixed = here.detach()
    # ‖(∇ℓ(θ + δ) − ∇ℓ(θ))/ρ‖²: its gradient is 2 (H₊ d − H d)/ρ with d constant in both.
    with displaced(weights, fixed, rho / float(fixed.norm())):
        there = torch.cat([part.flatten() for part in slopes()])
        bent = ((there - here) / rho).detach()
        first = gradient(there @ bent, weights)
    second = gradient(torch.cat([part.flatten() for part in slopes()]) @ bent, weights)
    return 2.0 * (first - second) / rho


@pytest.mark.parametrize("form", ["exact", "difference"])
@pytest.mark.parametrize("variant", ["gradient_norm", "curvature"])
def test_the_penalties_have_their_real_gradient(
    variant: Any, form: Any, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    base, rho = GradDiff(retain_weight=0.0, batch_size=4), 0.05
    lm.model.set_attn_implementation("eager")
    terms = base.terms(lm, make_run(1))
    plain = _vector(watch(base, lm, make_run(1)))
    method = SAM(base=base, variant=variant, rho=rho, weight=0.1, form=form, radius=1e-3)
    seen = watch(method, lm, make_run(1))
    added = _vector(seen) - plain
    want = 0.1 * _penalised(seen, terms, variant, rho)
    assert float(want.norm()) > 1e-3
    error = float((added - want).norm() / want.norm())
    assert error < (1e-3 if form == "exact" else 0.05)


@pytest.mark.parametrize("variant", ["gradient_norm", "curvature"])
def test_dropout_does_not_enter_the_differences(variant: Any, make_run: MakeRun) -> None:
    """GPT-2 trains with dropout; a difference of two masks over a small distance would explode."""
    lm = tiny_lm("gpt2")
    run = make_run(3)
    SAM(base=NPO(lr=1e-4), variant=variant, weight=1e-3)(lm, run)
    assert max(run.losses) < 10 * abs(run.losses[0]) + 100


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({}, 1.0),
        ({"variant": "gradient_norm"}, 1.0),
        ({"variant": "gradient_norm", "form": "exact"}, 3.0),
        ({"variant": "curvature"}, 3.0),
        ({"variant": "curvature", "form": "exact"}, 7.0),
    ],
)
def test_what_it_costs_is_charged(
    settings: Any, more: float, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    base = GradDiff(batch_size=99)
    plain, run = make_run(2), make_run(2)
    base(lm, plain)
    SAM(base=base, **settings)(lm, run)
    rows = [lm.encode(example.prompt, example.answer) for example in run.data.harmful]
    tokens = 2 * sum(len(row.ids) for row in rows)
    assert run.spent.tokens == plain.spent.tokens
    size = lm.parameters_in_matmuls()
    assert run.spent.flops - plain.spent.flops == pytest.approx(6.0 * size * more * tokens)


@pytest.mark.parametrize(
    "settings",
    [{"rho": -1.0}, {"weight": -1.0}, {"variant": "curvature", "rho": 0.0}, {"radius": 0.0}],
)
def test_bad_settings_are_refused(settings: Any) -> None:
    with pytest.raises(BadInput):
        SAM(**settings)
