"""Ratios against planted changes of known size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.hypernet.made import double
from titer.attacks.finetune import Finetune
from titer.conformance import tiny_lm
from titer.core import catalogue
from titer.core.data import Data
from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.core.records import Budget
from titer.defences.antidote import Antidote
from titer.hypernet import LowRank
from titer.hypernet.calibration import calibrated, measured, ratios
from titer.hypernet.sites import located, matrix


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_planted_changes_are_measured(architecture: str) -> None:
    before, after = (tiny_lm(architecture).model for _ in range(2))  # type: ignore[arg-type]
    sites = LowRank(rank=1).sites(before)
    chosen = located(after, sites)[3]
    weight = matrix(chosen)
    assert weight is not None
    u, s, v = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    with torch.no_grad():
        weight += 0.25 * s[0] * (u[:, 1:3] @ v[1:3])
    found = ratios(before, after)
    assert len(found) == len(sites)
    assert [one.path for one in found if one.spectral > 1e-6] == [sites[3].path]
    assert found[3].spectral == pytest.approx(0.25, rel=1e-3)
    assert found[3].rank == pytest.approx(2, rel=1e-3)
    assert found[3].frobenius == pytest.approx(
        float(0.25 * s[0] * 2**0.5 / s.square().sum().sqrt()), rel=1e-3
    )
    assert found[0].rank == 0
    assert calibrated(found, 1.0) == found[3].spectral
    assert calibrated(found, 0.5) == 0


def test_a_budget_from_them_is_kept_by_an_edit_that_holds_them() -> None:
    """What is measured is what :class:`LowRank` bounds."""
    lm = tiny_lm()
    edit = LowRank(rank=1, budget=0.25)
    sites = edit.sites(lm.model)
    limits = edit.limits(lm.model, sites, None)  # type: ignore[arg-type]
    after = tiny_lm()
    for module, limit in zip(located(after.model, sites), limits, strict=True):
        weight = matrix(module)
        assert weight is not None
        with torch.no_grad():
            weight[0, 0] += limit
    assert calibrated(ratios(lm.model, after.model), 1.0) == pytest.approx(0.25, rel=1e-4)


def test_other_shapes_and_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="0 layers"):
        calibrated([])
    with pytest.raises(BadInput):
        ratios(tiny_lm("llama").model, tiny_lm("gpt2").model)


def _alone(lm: LM, data: Data, rate: float, steps: int) -> tuple[Run, LM]:
    """The fine-tune that is measured, by itself."""
    run = Run(budget=Budget(steps=steps), data=data, seed=seed_for(5, "budget"))
    return run, Finetune(lr=rate, parameters="lora", batch_size=3)(lm, run)


def test_what_is_measured_is_the_fine_tune_that_learns_most(
    data: Data, make_run: Callable[..., Run]
) -> None:
    lm, rates = double(), (1e-5, 3e-3, 1e150)
    run = make_run(7)
    found = measured(lm, run, steps=12, rates=rates, batch_size=3)
    slow = {rate: _alone(lm, data, rate, 12) for rate in rates[:2]}
    assert slow[3e-3][0].losses[-1] < slow[1e-5][0].losses[-1]
    expected = ratios(lm.model, slow[3e-3][1].model)
    for one, other in zip(found, expected, strict=True):
        assert one.spectral == pytest.approx(other.spectral, rel=1e-5)
    assert run.spent.steps == 0
    own = [one.spent.flops for one, _ in slow.values()]
    assert run.spent.flops > sum(own)  # the one that diverged took some steps too
    with pytest.raises(Diverged, match="at"):
        measured(lm, make_run(7), steps=12, rates=(1e150,), batch_size=3)


def test_calibrating_spends_half_of_what_there_is_at_most(
    data: Data, make_run: Callable[..., Run]
) -> None:
    lm = tiny_lm()
    run = make_run(budget=Budget(steps=3, tokens=2000, flops=1e15))
    measured(lm, run, steps=1000, batch_size=3)
    assert 500 < run.spent.tokens <= 1000
    with pytest.raises(BadInput, match="too little budget"):
        measured(lm, make_run(budget=Budget(steps=3, tokens=30)), batch_size=3)
    with pytest.raises(BadInput, match="budget in examples"):
        measured(lm, make_run(budget=Budget(steps=3, examples=30)))


def test_a_defence_takes_its_budget_from_fine_tunes(make_run: Callable[..., Run]) -> None:
    lm, small = tiny_lm(), {"width": 8, "edit_rank": 2, "parameters": "full", "batch_size": 3}
    run, plain = make_run(4), make_run(4)
    out = Antidote(budget="calibrated", **small)(lm, run)  # type: ignore[arg-type]
    bound = run.course[0]["budget"]
    assert bound == calibrated(measured(lm, make_run(1), batch_size=3))
    assert out.digest() == Antidote(budget=bound, **small)(lm, plain).digest()  # type: ignore[arg-type]
    assert run.course[1:] == plain.course
    assert run.spent.steps == plain.spent.steps == 4
    assert run.spent.flops > 2 * plain.spent.flops
    with pytest.raises(BadInput, match="calibrated budget is one of low-rank weights"):
        Antidote(budget="calibrated", edit="steering")
    built = catalogue.build("defence", "antidote", {"budget": "calibrated", "edit": "weights"})
    assert built.budget == "calibrated"
