"""A row is tried at other rates until it works on the undefended model and on the model at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests import toy
from titer.core.records import Point, Spent, Trace, Trial
from titer.core.study import Role, Subject
from titer.plan.experiment import Experiment
from titer.plan.rates import STEP
from titer.plan.schedule import stages
from titer.plan.suite import Adversary
from titer.plan.suites import suite
from titer.worlds.source import load_world

Seen = Callable[[str, float], tuple[float, float] | None]
"""By model and by rate as a multiple of the row's own: harm and utility at the last step, or None
where it diverges."""

_BEFORE = {"base": 1.0, "npo": 0.0}


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    source = str(toy.data_folder(tmp_path / "data"))
    roles: list[tuple[str, Role]] = [("base", "undefended"), ("npo", "defended")]
    subjects = tuple(
        Subject(name=name, source=name, folder=name, digest=name, role=role, parameters=20_000)
        for name, role in roles
    )
    return Experiment(
        suite=replace(suite("quick"), rows=(Adversary(id="S02"),), checks="none"),
        world=load_world(source),
        source=source,
        subjects=subjects,
        seeds=(0,),
        domain="alloy",
    )


def _trace(trial: Trial, own: float, seen: Seen) -> Trace:
    rate = trial.attack.fields.get("lr")
    if trial.purpose != "attack" or not isinstance(rate, float):
        return _points(trial, [(_BEFORE[trial.subject], 1.0)])
    last = seen(trial.subject, round(rate / own, 3))
    if last is None:
        return Trace(trial=trial, status="diverged")
    return _points(trial, [(_BEFORE[trial.subject], 1.0), last])


def _points(trial: Trial, seen: list[tuple[float, float]]) -> Trace:
    def items(share: float) -> tuple[float, ...]:
        return (1.0,) * round(20 * share) + (0.0,) * (20 - round(20 * share))

    points = tuple(
        Point(
            spent=Spent(steps=300 * index),
            scores={"harm": items(harm), "select": items(harm), "utility:near": (left,) * 10},
        )
        for index, (harm, left) in enumerate(seen)
    )
    return Trace(trial=trial, status="ok", points=points)


def _tried(study: Experiment, seen: Seen, own: float = 1e-3) -> dict[str, list[float]]:
    """Walk a whole study whose trials show this; the rates of each model in the order tried."""
    going = stages(study)
    stage = next(going)
    ran: list[Trial] = []
    while True:
        assert not {trial.key for trial in stage.run} & {trial.key for trial in ran}
        ran += stage.run
        try:
            stage = going.send([_trace(trial, own, seen) for trial in stage.planned])
        except StopIteration:
            break
    return {
        name: [
            round(float(trial.attack.fields["lr"]) / own, 3)
            for trial in ran
            if trial.row == "S02" and trial.subject == name
        ]
        for name in ("base", "npo")
    }


@pytest.fixture(autouse=True)
def _the_reference_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titer.plan.experiment.stars", lambda traces: {"full-adamw": 1e-3})


def test_a_row_that_works_and_breaks_the_model_is_tried_at_its_own_rate_alone(
    study: Experiment,
) -> None:
    assert _tried(study, lambda name, rate: (1.0, 1.0)) == {"base": [1.0], "npo": [1.0]}


def test_a_rate_that_ruins_the_undefended_model_comes_down_until_it_does_not(
    study: Experiment,
) -> None:
    tried = _tried(study, lambda name, rate: (1.0, 1.0 if rate < 0.2 else 0.5))
    assert tried == {"base": [1.0, 0.333, 0.111], "npo": [0.111]}


def test_a_rate_that_diverges_is_too_high_as_well(study: Experiment) -> None:
    tried = _tried(study, lambda name, rate: (1.0, 1.0) if rate < 0.2 else None)
    assert tried == {"base": [1.0, 0.333, 0.111], "npo": [0.111]}


def test_a_model_that_holds_meets_higher_rates_until_one_costs_it_its_use(
    study: Experiment,
) -> None:
    def seen(name: str, rate: float) -> tuple[float, float]:
        return (1.0, 1.0) if name == "base" else (0.0, 1.0 if rate < 5 else 0.5)

    assert _tried(study, seen) == {"base": [1.0], "npo": [1.0, 3.0, 9.0]}


def test_a_function_kept_by_smaller_weights_falls_at_a_smaller_rate(study: Experiment) -> None:
    """Weights a seventh as large need rates a seventh as high; so does the verdict on them."""

    def seen(name: str, rate: float) -> tuple[float, float]:
        relative = rate if name == "base" else 7 * rate
        return (1.0, 1.0) if relative < 1.5 else (0.0, 0.4)

    assert _tried(study, seen) == {"base": [1.0], "npo": [1.0, 0.333, 0.111]}


def test_a_best_rate_at_the_edge_of_three_is_followed_further(study: Experiment) -> None:
    harm = {1.0: 0.0, 3.0: 0.0, 0.333: 0.2, 0.111: 0.24}

    def seen(name: str, rate: float) -> tuple[float, float]:
        return (1.0, 1.0) if name == "base" else (harm[rate], 1.0 if rate < 0.5 else 0.5)

    assert _tried(study, seen)["npo"] == [1.0, 0.333]
    swept = replace(study.suite, rows=(Adversary(id="S02", multiples=(0.333, 1.0, 3.0)),))
    tried = _tried(replace(study, suite=swept), seen)
    assert sorted(tried["npo"]) == [0.111, 0.333, 1.0, 3.0]


def test_the_number_of_rates_is_bounded_and_one_leaves_a_row_at_its_own(
    study: Experiment,
) -> None:
    def ruined(name: str, rate: float) -> tuple[float, float]:
        return 0.0, 0.1

    assert len(_tried(study, ruined)["base"]) == study.suite.rungs == 4
    alone = replace(study, suite=replace(study.suite, rungs=1))
    assert _tried(alone, ruined) == {"base": [1.0], "npo": [1.0]}


def test_a_row_that_failed_for_another_reason_is_not_tried_again(study: Experiment) -> None:
    going = stages(study)
    planned = next(going).planned
    stage = going.send([_points(trial, [(1.0, 1.0)]) for trial in planned])
    failed = [
        Trace(trial=t, status="failed") if t.row == "S02" else _points(t, [(1.0, 1.0)])
        for t in stage.planned
    ]
    again = going.send(failed)
    assert {trial.subject for trial in again.run} == {"npo"}
    assert STEP == 3.0
