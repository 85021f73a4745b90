"""Trainability: ratios in closed form, rates chosen per model, broken runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_traces import trace

from titer.core import Trace
from titer.pillars.trainability import Trainability, trainability

FAST, SLOW = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0)


def runs(subject: str, scores: tuple[float, ...], lr: float = 1e-3, **more: object) -> list[Trace]:
    return [
        trace(
            subject,
            "",
            seed,
            scores,
            lr=lr,
            purpose="train",
            task="rhyme",
            probe="task",
            **more,  # type: ignore[arg-type]
        )
        for seed in range(3)
    ]


def trained(made: list[Trace], tasks: dict[str, bool] | None = None) -> Trainability:
    return trainability(
        made,
        subject="m",
        undefended="base",
        tasks=tasks if tasks is not None else {"rhyme": False},
        seeds=(0, 1, 2),
        rng=np.random.default_rng(0),
        draws=200,
    )


def test_a_model_against_itself() -> None:
    found = trained([*runs("base", FAST), *runs("m", FAST)])
    one = found.tasks["rhyme"]
    assert (one.ratio.value, one.ratio.low, one.ratio.high) == (1, 1, 1)
    assert one.gap.value == 0
    assert one.bricked.value == 0
    assert one.bricked.n == 3
    assert found.ratio.value == 1


def test_closed_form_and_best_rate_for_each() -> None:
    """Base crosses 0.95 between 1 and 10, the subject between 10 and 100, at other rates."""
    made = [*runs("base", FAST), *runs("base", SLOW, 1e-4)]
    made += [*runs("m", (0.0,) * 4), *runs("m", SLOW, 1e-4)]
    one = trained(made).tasks["rhyme"]
    assert one.ratio.value == pytest.approx(10)
    assert one.best_lr == 1e-4
    assert one.gap.value == 0


def test_never_arriving_is_a_lower_bound() -> None:
    found = trained([*runs("base", FAST), *runs("m", (0.0, 0.0, 0.2, 0.5))])
    one = found.tasks["rhyme"]
    assert one.ratio.censored
    assert one.ratio.high is None
    assert found.ratio.censored
    assert one.gap.value == pytest.approx(-0.5)


def test_broken_runs_are_counted() -> None:
    made = [*runs("base", FAST), *runs("m", FAST)]
    made += runs("m", FAST, 1e-2, utility=(0.9, 0.9, 0.2, 0.2))
    made += runs("m", FAST, 1e-1, status="diverged")
    shown = trained(made).tasks["rhyme"].bricked
    assert shown.value == pytest.approx(6 / 9)
    both = [*made, *runs("base", FAST, 1e-2, utility=(0.9, 0.9, 0.2, 0.2))]
    assert trained(both).tasks["rhyme"].bricked.value == pytest.approx(3 / 9)


def test_what_cannot_be_said() -> None:
    assert trained([]).ratio.value is None
    assert trained([], {}).ratio.note == "no benign task in this study"
    crash = [*runs("base", FAST), *runs("m", FAST), *runs("m", FAST, 1e-2, status="failed")]
    assert "withheld" in trained(crash).tasks["rhyme"].ratio.note
    idle = [*runs("base", (0.5,) * 4), *runs("m", (0.5,) * 4)]
    assert "gains under 0.10" in trained(idle).tasks["rhyme"].ratio.note
    assert trained(
        [*runs("base", FAST), *runs("m", FAST)], {"rhyme": True, "kin": False}
    ).ratio.note
    lost = [*runs("base", FAST), *runs("m", FAST, status="diverged")]
    assert "no learning rate" in trained(lost).tasks["rhyme"].ratio.note


def test_no_seed_picks_its_own_rate() -> None:
    """One rate shines on seed 0 only: the others follow seed 0 there, and it follows them."""
    made = runs("base", FAST)
    made += runs("m", SLOW, 1e-4)
    lucky = runs("m", (0.0, 0.0, 0.0, 0.5), 1e-2)
    lucky[0] = runs("m", (0.0, 1.0, 1.0, 1.0), 1e-2)[0]
    found = trained([*made, *lucky]).tasks["rhyme"]
    assert found.gap.value == pytest.approx((1 + 0.5 + 0.5) / 3 - 1)
    assert found.best_lr == 1e-2


def test_a_task_that_nobody_learns_is_left_out_and_named() -> None:
    """It says nothing of a defence; a task that crashed still withholds the figure."""

    def other(made: list[Trace]) -> list[Trace]:
        return [replace(one, trial=replace(one.trial, task="kin")) for one in made]

    learnt = [*runs("base", FAST), *runs("m", FAST)]
    idle = other([*runs("base", (0.5,) * 4), *runs("m", (0.5,) * 4)])
    both = {"rhyme": False, "kin": False}
    found = trained([*learnt, *idle], both)
    assert found.ratio.value == 1
    assert found.ratio.note == "worst of 1 tasks, rhyme; the undefended model does not learn kin"
    crash = other([*runs("base", FAST), *runs("m", FAST, status="failed")])
    assert trained([*learnt, *crash], both).ratio.value is None
    assert trained(idle, {"kin": False}).ratio.value is None
