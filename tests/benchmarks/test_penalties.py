"""The steps that are timed are those of the defences, and every alternative is there."""

from __future__ import annotations

import pytest
import torch
from benchmarks.loop import nano
from torch.testing import assert_close

from benchmarks import penalties
from titer.core.data import Data
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.npo import NPO
from titer.train.grads import flat, trained


def test_figures_of_every_alternative() -> None:
    found = penalties.measure("nano", nano(), rounds=1, steps=1, rows=4, tokens=6, memory=False)
    named = [figure.what.split(":")[0] for figure in found]
    assert named == ["npo", "sam", *penalties.PENALTIES]
    assert all(figure.median > 0 for figure in found)
    goals = {figure.what.split(":")[0]: figure.against for figure in found}
    assert goals["logit_scale"] == "npo, goal 1.6"
    assert goals["grad_norm"] == "npo, goal 3.0"


def test_penalties_add_to_the_base_and_the_two_forms_agree() -> None:
    lm = nano()
    terms = NPO().terms(lm, Run(budget=Budget(), data=Data()))
    parts = penalties.bundle(lm, 4, 6)
    model = lm.clone().model
    found = {}
    for name, grad in penalties.gradients(terms).items():
        model.zero_grad(set_to_none=True)
        grad(model, parts)
        found[name] = flat([w.grad for w in trained(model) if w.grad is not None])
    base = found["npo"]
    added = {name: vector - base for name, vector in found.items()}
    for name in penalties.PENALTIES:
        if name != "interaction":  # nothing where the two do not clash
            assert float(added[name].norm()) > 0
    one, two = added["grad_norm"], added["grad_norm, double backward"]
    assert float((one - two).norm() / two.norm()) < 0.1
    with pytest.raises(AssertionError):
        assert_close(found["sam"], base)


def test_thirty_million_weights() -> None:
    with torch.device("meta"):
        size = sum(weight.numel() for weight in penalties.thirty().model.parameters())
    assert 28e6 < size < 32e6
