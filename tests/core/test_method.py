"""Budgets, checkpoints, stages and chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from titer.core.data import Data
from titer.core.errors import BadInput, BudgetExceeded
from titer.core.lm import LM
from titer.core.method import Chain, Run, chain, seed_for
from titer.core.records import Budget

MakeRun = Callable[..., Run]
NOBODY: Any = None


def test_seeds_are_pinned_and_apart() -> None:
    assert seed_for(0, "order") == 0x91374D56F0AE01
    seen = {seed_for(seed, name) for seed in range(20) for name in ("order", "adapter")}
    assert len(seen) == 40


def test_a_new_source_of_chance_leaves_the_old_alone(make_run: MakeRun) -> None:
    run = make_run()
    first = run.rng("order").random()
    run.rng("something new").random()
    assert run.rng("order").random() == first != run.rng("something new").random()
    assert make_run(seed=6).rng("order").random() != first


def test_charges_add_up_and_examples_are_unique(make_run: MakeRun) -> None:
    run = make_run(budget=Budget())
    run.charge(steps=1, tokens=10, examples=["a", "b"], flops=5.0)
    run.charge(steps=2, tokens=1, examples=["b", "c"], flops=0.5)
    spent = run.spent
    assert (spent.steps, spent.tokens, spent.examples, spent.flops) == (3, 11, 3, 5.5)
    assert not run.exhausted()


@pytest.mark.parametrize(
    ("budget", "fine", "more"),
    [
        (Budget(steps=2), {"steps": 2}, {"steps": 1}),
        (Budget(tokens=9), {"tokens": 9}, {"tokens": 1}),
        (Budget(examples=2), {"examples": ["a", "b"]}, {"examples": ["c"]}),
        (Budget(flops=1e3), {"flops": 1e3}, {"flops": 1.0}),
    ],
)
def test_a_budget_holds_to_its_limit_and_no_further(
    make_run: MakeRun, budget: Budget, fine: dict[str, Any], more: dict[str, Any]
) -> None:
    run = make_run(budget=budget)
    assert run.affords()
    run.charge(**fine)
    with pytest.raises(BudgetExceeded, match=r"affords"):
        run.charge(**more)


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        (Budget(steps=2), {"steps": 2}),
        (Budget(tokens=9), {"tokens": 9}),
        (Budget(flops=1e3), {"flops": 1e3}),
    ],
)
def test_what_is_used_up_is_exhausted(
    make_run: MakeRun, budget: Budget, spent: dict[str, Any]
) -> None:
    run = make_run(budget=budget)
    assert not run.exhausted()
    run.charge(**spent)
    assert run.exhausted()


def test_examples_seen_may_be_seen_again(make_run: MakeRun) -> None:
    run = make_run(budget=Budget(examples=2))
    run.charge(examples=["a", "b"])
    assert not run.exhausted()
    assert run.affords(examples=["b", "a"])
    assert not run.affords(examples=["b", "c"])


def test_a_price_must_fit_every_axis(make_run: MakeRun) -> None:
    run = make_run(budget=Budget(steps=2, tokens=10, flops=100.0))
    run.charge(steps=1, tokens=6, flops=10.0)
    assert run.affords(tokens=4, flops=90.0)
    assert not run.affords(tokens=5)
    assert not run.affords(flops=90.5)
    run.charge(steps=1)
    assert not run.affords()


def test_looks_happen_once_and_only_where_asked(make_run: MakeRun) -> None:
    seen: list[int] = []
    run = make_run(4, emit=lambda lm, run: seen.append(run.spent.steps), checkpoints=(0, 2))
    for _ in range(4):
        run.look(NOBODY)
        run.look(NOBODY)
        run.charge(steps=1)
    run.look(NOBODY)
    assert seen == [0, 2]


def test_steps_left_is_a_share_of_what_remains(make_run: MakeRun) -> None:
    run = make_run(10)
    assert (run.steps_left(), run.steps_left(0.4)) == (10, 4)
    run.charge(steps=5)
    assert (run.steps_left(), run.steps_left(0.4)) == (5, 2)
    with pytest.raises(BadInput, match="budget in steps"):
        make_run(budget=Budget(tokens=5)).steps_left()


def test_a_stage_spends_from_its_run_with_chance_of_its_own(make_run: MakeRun) -> None:
    run = make_run(10, checkpoints=(3, 5))
    run.charge(steps=2)
    stage = run.stage(3, "first")
    assert stage.steps_left() == 3
    stage.charge(steps=3, tokens=7, examples=["a"])
    assert stage.exhausted()
    assert (run.spent.steps, run.spent.tokens, run.spent.examples) == (5, 7, 1)
    assert run.steps_left() == 5
    assert run.due()
    stage.look(NOBODY)
    assert not run.due()
    assert run.stage(50, "second").steps_left() == 5
    draws = {run.rng("x").random(), stage.rng("x").random(), run.stage(3, "b").rng("x").random()}
    assert len(draws) == 3


@dataclass(frozen=True)
class Takes:
    """Spends ``steps``, or all there are."""

    steps: int = -1

    def __call__(self, lm: LM, run: Run) -> LM:
        had = run.steps_left()
        run.charge(steps=had if self.steps < 0 else self.steps)
        TAKEN.append((had, run.seed))
        return lm


TAKEN: list[tuple[int, int]] = []


@pytest.mark.parametrize(
    ("stages", "given"),
    [
        ((Takes(), Takes()), [5, 5]),
        ((Takes(), Takes(), Takes()), [3, 4, 3]),
        ((Takes(0), Takes()), [5, 10]),
        ((Takes(1), Takes(2), Takes()), [3, 4, 7]),
    ],
)
def test_a_chain_shares_steps_and_passes_on_what_is_left(
    make_run: MakeRun, stages: tuple[Takes, ...], given: list[int]
) -> None:
    TAKEN.clear()
    run = make_run(10)
    Chain(stages=stages)(NOBODY, run)
    assert [steps for steps, _ in TAKEN] == given
    assert len({seed for _, seed in TAKEN}) == len(stages)


def test_a_chain_of_one_is_that_one() -> None:
    only = Takes()
    assert chain(only) is only
    with pytest.raises(BadInput, match="at least one"):
        chain()


def test_a_stopped_run_is_at_its_end_and_says_why() -> None:
    run = Run(budget=Budget(steps=5), data=Data())
    assert not run.exhausted()
    run.stage(3, "first").stop("breached")
    assert run.exhausted()
    assert run.flags == ["breached"]
