"""A search that sees losses alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from titer.attacks.random_search import RandomSearch
from titer.conformance import tiny_data, tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.method import Run
from titer.core.records import Budget

from .planted import loss


def search(steps: int, seed: int = 0) -> Run:
    return Run(budget=Budget(steps=steps), data=Data(harmful=tiny_data().harmful), seed=seed)


def test_the_loss_falls_without_a_gradient() -> None:
    lm, run = tiny_lm(), search(120)
    out = RandomSearch()(lm, run)
    harmful = tiny_data().harmful
    assert loss(out, harmful) < loss(lm, harmful) - 0.05
    assert all(not weight.requires_grad or weight.grad is None for weight in out.model.parameters())
    assert run.losses == [], "it must not be taken for an attack that trains"
    assert run.spent.steps == 120
    assert run.spent.flops > 0


def test_one_trial_is_the_model_itself() -> None:
    lm = tiny_lm()
    assert RandomSearch()(lm, search(1)).digest() == lm.digest()


def test_more_trials_never_do_worse() -> None:
    lm, harmful = tiny_lm(), tiny_data().harmful
    losses = [loss(RandomSearch(examples=1000)(lm, search(n)), harmful) for n in (1, 20, 60)]
    assert losses == sorted(losses, reverse=True)


def test_a_budget_of_tokens_ends_it() -> None:
    run = replace(search(50), budget=Budget(steps=50, tokens=500))
    RandomSearch()(tiny_lm(), run)
    assert run.spent.tokens <= 500


@pytest.mark.parametrize("knobs", [{"rank": 0}, {"sigma": 0.0}, {"examples": 0}])
def test_bad_knobs(knobs: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="positive"):
        RandomSearch(**knobs)  # type: ignore[arg-type]
