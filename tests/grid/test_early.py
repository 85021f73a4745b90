"""An attack whose breach is certain ends at that look, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from titer.core.method import Run
from titer.core.records import STOPPED, Budget, Enough, Point, Spent, Trace, Trial
from titer.executors.inline import Inline
from titer.grid import early
from titer.grid import study as plan
from titer.grid.assemble import Request, assemble, check
from titer.grid.perform import _Recorder, attack, attack_together, load_model
from titer.grid.probes import probes
from titer.grid.runner import run_study
from titer.grid.study import Study, checkpoints
from titer.grid.suite import Row

STEPS = 10


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """One model that is its own undefended reference, and one under test; two rows of ten steps."""
    request = Request(
        models=[
            str(toy.model_folder(tmp_path / "model")),
            str(toy.model_folder(tmp_path / "other", seed=1)),
        ],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
        worst_case=True,
    )
    made = assemble(check(request))[0]
    rows = (Row(id="S03"), Row(id="P02"))
    small = replace(made.suite, rows=rows, cap=STEPS, rates=(1.0,), task_steps=2, sweep_steps=2)
    return replace(made, suite=small)


def _trials(study: Study, enough: Enough | None) -> list[Trial]:
    subject = study.subjects[1]
    found = plan.attacks(study, {}, {study.domain: enough} if enough else None)
    return [t for t in found if t.subject == subject.name and t.label != "none"]


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
    assert early.shown([start], now, level) is ends
    # The first look is what utility is measured against, and ends nothing.
    assert not early.shown([], now, level)


def test_the_option_is_in_the_command_and_in_the_hash(study: Study) -> None:
    request = Request(models=["m"], worst_case=True)
    assert "--worst-case" in request.command().split()
    assert "--worst-case" not in replace(request, worst_case=False).command().split()
    assert study.suite.digest() != replace(study.suite, worst_case=False).digest()


def test_the_level_is_what_the_strongest_attack_brings_out_of_the_undefended_model(
    study: Study,
) -> None:
    base = study.undefended()

    def traces(*harm: float) -> list[Trace]:
        trial = replace(
            early.reference(study, {})[1], subject=base.name, label="S03", budget=Budget(steps=1)
        )
        points = tuple(_point(step, one, far=0.8) for step, one in enumerate(harm))
        return [Trace(trial=trial, status="ok", points=points)]

    assert {trial.subject for trial in early.reference(study, {})} == {base.name}
    assert early.enough(study, traces(0.5, 0.7)) == {study.domain: Enough(harm=0.7, kept=0.95)}
    assert early.enough(study, traces(0.9, 0.7))[study.domain].harm == 0.9
    # Within 0.10 of chance an absolute threshold decides, so no level is known.
    assert early.enough(study, traces(0.3, 0.4)) == {}


def test_a_run_ends_at_the_first_look_that_shows_enough(study: Study) -> None:
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


def test_the_look_that_ends_a_run_asks_what_the_last_look_asks(study: Study) -> None:
    always = probes(study.world, study.domain)[0]
    asked = [always, replace(always, name="harm:again", when="ends")]
    lm = load_model(study.subjects[1].folder)
    recorder = _Recorder(asked, STEPS, None, Enough(harm=0.0, kept=0.0))
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


def test_a_run_that_does_not_show_enough_is_the_same_as_ever(study: Study) -> None:
    lm = load_model(study.subjects[1].folder)
    for trial in _trials(study, Enough(harm=1.0, kept=1.5)):
        trace, _, _ = attack(lm, trial, study.world)
        whole, _, _ = attack(lm, replace(trial, enough=None), study.world)
        assert trace.points == whole.points
        assert trace.weights == whole.weights
        assert trace.flags == whole.flags == ()


def test_a_member_of_a_cohort_ends_without_disturbing_the_others(study: Study) -> None:
    lm = load_model(study.subjects[1].folder)
    one = _trials(study, None)[1]
    ending = replace(one, enough=Enough(harm=0.0, kept=0.0))
    (first, _, _), (second, _, _) = attack_together(lm, [ending, one], study.world)
    assert (first.flags, len(first.losses)) == ((STOPPED,), 1)
    assert (second.flags, len(second.losses)) == ((), STEPS)
    assert second.losses == pytest.approx(attack(lm, one, study.world)[0].losses, abs=1e-5)


def test_a_study_attacks_the_undefended_model_first_and_hands_its_level_on(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def low(_study: Study, traces: list[Trace]) -> dict[str, Enough]:
        seen.append({t.trial.subject for t in traces if t.trial.purpose == "attack"})
        return {study.domain: Enough(harm=0.0, kept=0.0)}

    monkeypatch.setattr(early, "enough", low)
    traces = run_study(study, tmp_path / "run", Inline())
    assert {trace.status for trace in traces} == {"ok"}
    base, other = study.subjects
    assert seen == [{base.name}]
    rows = [t for t in traces if t.trial.purpose == "attack" and t.trial.label != "none"]
    for trace in rows:
        ended = trace.trial.subject == other.name
        assert (STOPPED in trace.flags) is ended
        assert trace.points[-1].spent.steps == (1 if ended else STEPS)
    again = run_study(study, tmp_path / "run", Inline())
    assert again == traces
