"""What a trial writes down; an attack that has shown enough ends at that look, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import STOPPED, Budget, Enough, Kind, Point, Spent, Trial
from titer.core.study import Study
from titer.plan import experiment as plan
from titer.plan.experiment import Experiment
from titer.plan.request import assemble, check
from titer.plan.suite import Adversary
from titer.trial.attempt import attack
from titer.trial.cohort import attack_together
from titer.trial.load import load_model
from titer.trial.presets import checkpoints
from titer.trial.probes import probes
from titer.trial.recorder import Recorder, shows

STEPS = 10


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    """One model that is its own undefended reference, and one under test; two rows of ten steps."""
    request = Study(
        models=[
            str(toy.model_folder(tmp_path / "model")),
            str(toy.model_folder(tmp_path / "other", seed=1)),
        ],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
    )
    made = assemble(check(request))[0]
    rows = (Adversary(id="S03"), Adversary(id="P02"))
    small = replace(made.suite, rows=rows, cap=STEPS, rates=(1.0,), task_steps=2, sweep_steps=2)
    return replace(made, suite=small)


def _trials(study: Experiment, enough: Enough | None) -> list[Trial]:
    subject = study.subjects[1]
    found = [t for t in plan.attacks(study, {}) if t.subject == subject.name and t.label != "none"]
    return [replace(trial, enough=enough) for trial in found]


def _point(steps: int, harm: float | None, **kept: float) -> Point:
    scores: Mapping[str, Any] = {f"utility:{name}": (share,) for name, share in kept.items()}
    return Point(
        spent=Spent(steps=steps), scores={**scores, **({} if harm is None else {"harm": (harm,)})}
    )


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        (_point(1, 0.9, far=0.76, near=0.5), True),
        (_point(1, 0.89, far=0.8, near=0.5), False),
        (_point(1, 1.0, far=0.75, near=0.5), False),
        (_point(1, 1.0, far=0.8, near=0.47), False),
        (_point(1, 1.0, far=0.8), False),
        (_point(1, None, far=0.8, near=0.5), False),
        (_point(1, float("nan"), far=0.8, near=0.5), False),
    ],
)
def test_enough_is_harm_with_every_suite_kept(now: Point, ends: bool) -> None:
    start = _point(0, 0.2, far=0.8, near=0.5)
    level = Enough(harm=0.9, kept=0.95)
    assert shows([start], now, level) is ends
    # The first look is what utility is measured against, and ends nothing.
    assert not shows([], now, level)


def test_a_run_ends_at_the_first_look_that_shows_enough(study: Experiment) -> None:
    lm = load_model(study.subjects[1].folder)
    for trial in _trials(study, Enough(harm=0.0, kept=0.0)):
        trace, said, _ = attack(lm, trial, study.world)
        whole, _, _ = attack(lm, replace(trial, enough=None), study.world)
        assert (trace.status, trace.flags) == ("ok", (STOPPED,))
        assert [point.spent.steps for point in trace.points] == [0, 1] == [r["steps"] for r in said]
        assert len(trace.losses) == len(trace.rates) == 1
        # What it did until then is what it does anyway.
        assert trace.points == whole.points[:2]
        assert trace.losses == whole.losses[:1]
        assert [point.spent.steps for point in whole.points] == list(checkpoints(STEPS))


def test_the_look_that_ends_a_run_asks_what_the_last_look_asks(study: Experiment) -> None:
    always = probes(study.world, study.domain)[0]
    asked = [always, replace(always, name="harm:again", when="ends")]
    lm = load_model(study.subjects[1].folder)
    recorder = Recorder(asked, STEPS, None, Enough(harm=0.0, kept=0.0))
    run = Run(
        budget=Budget(steps=STEPS),
        data=study.world.attacker(study.domain),
        emit=recorder,
        checkpoints=(0, 1, 3),
    )
    run.look(lm)
    run.charge(steps=1)
    run.look(lm)
    assert run.exhausted()
    for point, said in zip(recorder.points, recorder.generations, strict=True):
        assert set(point.scores) == set(said["records"]) == {"harm", "harm:again"}


def test_a_run_that_does_not_show_enough_is_the_same_as_ever(study: Experiment) -> None:
    lm = load_model(study.subjects[1].folder)
    for trial in _trials(study, Enough(harm=1.0, kept=1.5)):
        trace, _, _ = attack(lm, trial, study.world)
        whole, _, _ = attack(lm, replace(trial, enough=None), study.world)
        assert trace.points == whole.points
        assert trace.weights == whole.weights
        assert trace.flags == whole.flags == ()


def test_a_member_of_a_cohort_ends_without_disturbing_the_others(study: Experiment) -> None:
    lm = load_model(study.subjects[1].folder)
    one = _trials(study, None)[1]
    ending = replace(one, enough=Enough(harm=0.0, kept=0.0))
    (first, _, _), (second, _, _) = attack_together(lm, [ending, one], study.world)
    assert (first.flags, len(first.losses)) == ((STOPPED,), 1)
    assert (second.flags, len(second.losses)) == ((), STEPS)
    assert second.losses == pytest.approx(attack(lm, one, study.world)[0].losses, abs=1e-5)


def test_what_a_method_doubts_of_itself_stands_in_its_trace_once(
    study: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubting:
        def __call__(self, lm: LM, run: Run) -> LM:
            run.look(lm)
            run.doubts.extend(["reached only a half", "reached only a half"])
            return lm

    trial = _trials(study, None)[0]
    real = catalogue.build

    def build(kind: Kind, *rest: Any) -> object:
        return Doubting() if kind == "attack" else real(kind, *rest)

    monkeypatch.setattr(catalogue, "build", build)
    trace, _, _ = attack(LM.load(study.subjects[1].folder), trial, study.world)
    assert (trace.status, trace.doubts) == ("ok", ("reached only a half",))
