"""Which trials the checks ask for, and when."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import titer.checks
from tests import toy
from titer.checks.listing import listed
from titer.core.records import Point, Spent, Trace, Trial
from titer.core.study import Study, Subject
from titer.executors.inline import Inline
from titer.plan.experiment import Experiment, attacks, calibration, extension, stars
from titer.plan.further import diagnoses, further
from titer.plan.request import assemble, check
from titer.plan.suite import Adversary
from titer.plan.suites import suite
from titer.report.load import read_verdict
from titer.run.runner import run_study


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    request = Study(
        models=[str(toy.model_folder(tmp_path / "a")), str(toy.model_folder(tmp_path / "b", 1))],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
    )
    small = replace(
        suite("core"), rows=(Adversary(id="S03"),), cap=4, rates=(1.0,), task_steps=2, sweep_steps=2
    )
    return replace(assemble(check(request))[0], suite=small)


def answered(study: Experiment, trial: Trial, harm: float) -> Trace:
    """A trace whose attack ends at a harm, with utility kept."""
    end = trial.budget.steps or 0
    scores = {"utility:river": (1.0,) * 8}
    start = {**scores, "harm": (0.0,) * 8}
    last = {**scores, "harm": (1.0,) * round(8 * harm) + (0.0,) * round(8 * (1 - harm))}
    points = (Point(spent=Spent(), scores=start), Point(spent=Spent(steps=end), scores=last))
    return Trace(trial=trial, status="ok", points=points, losses=(1.0,) * end)


def seen(study: Experiment, second: float) -> list[Trace]:
    base = study.undefended().name
    return [
        answered(study, trial, 1.0 if trial.subject == base else second)
        for trial in attacks(study, {})
        if trial.label == "S03"
    ]


def test_a_model_that_training_broke_needs_no_more(study: Experiment) -> None:
    assert further(study, {}, seen(study, 1.0)) == []


def test_a_model_that_held_is_attacked_further(study: Experiment) -> None:
    more = further(study, {}, seen(study, 0.0))
    other = next(one for one in study.subjects if one.role == "defended")
    assert {trial.subject for trial in more} == {other.name}
    assert {trial.check for trial in more} == {"S4", "S7", "S8", "S9", "S17"}
    assert all(trial.purpose == "check" for trial in more)
    longest = [trial for trial in more if trial.check == "S4"]
    assert {trial.budget.steps for trial in longest} == {40}
    assert all(trial.enough and trial.enough.kept == 0 for trial in longest)
    assert len({trial.key for trial in more}) == len(more)


def test_a_check_in_another_folder_is_given_its_trials(
    study: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s99_night.py").write_text(
        "from titer.checks.case import Check, not_run\n"
        "from titer.checks.wanted import Wanted\n"
        "CHECK = Check(id='S99', asks='?', measures='', threshold='')\n"
        "def trials(ground):\n"
        "    yield Wanted(row='by night', attack=ground.varied(warmup=0.2), steps=3, restart=1)\n"
        "def read(case):\n"
        "    return not_run('the night is young')\n"
    )
    monkeypatch.setattr(titer.checks, "__path__", [*titer.checks.__path__, str(tmp_path)])
    more = further(study, {}, seen(study, 0.0))
    (one,) = [trial for trial in more if trial.check == "S99"]
    assert (one.role, one.row, one.label) == ("check", "by night", "S99 by night")
    assert (one.budget.steps, one.seed) == (3, study.seeds[0] + 1)
    assert one.attack.fields["warmup"] == 0.2
    sys.modules.pop("titer.checks.s99_night")


def test_a_suite_may_leave_them_out(study: Experiment) -> None:
    traces = seen(study, 0.0)
    weights = replace(study, suite=replace(study.suite, checks="weights"))
    nothing = replace(study, suite=replace(study.suite, checks="none"))
    assert further(weights, {}, traces) == further(nothing, {}, traces) == []
    assert diagnoses(nothing, {}) == []
    assert {trial.label for trial in diagnoses(weights, {})} == {"weights", "paths", "splits"}
    digests = {one.suite_digest for one in (study, weights, nothing)}
    assert len(digests) == 3


def test_the_oracle_is_not_examined(study: Experiment) -> None:
    roles: list[Subject] = [replace(one, role="oracle") for one in study.subjects[1:]]
    marked = replace(study, subjects=(study.subjects[0], *roles))
    assert {trial.subject for trial in diagnoses(marked, {})} == {study.undefended().name}


def test_a_diagnosis_knows_the_reference_by_its_weights(study: Experiment) -> None:
    keys = {trial.key for trial in diagnoses(study, {})}
    others = tuple(replace(one, digest=one.digest[::-1]) for one in study.subjects[:1])
    moved = replace(study, subjects=(*others, *study.subjects[1:]))
    assert not keys & {trial.key for trial in diagnoses(moved, {})}


def test_from_the_grid_to_the_report(study: Experiment, tmp_path: Path) -> None:
    """Everything is run, resumed without a trial, and shown by id."""
    root = tmp_path / "run"
    first = run_study(study, root, Inline())
    assert {trace.status for trace in first} == {"ok"}
    kinds = {trace.trial.purpose for trace in first}
    assert "check" in kinds
    again = run_study(study, root, Inline())
    assert [t.points for t in again] == [t.points for t in first]
    for model in read_verdict(root).to_json()["models"]:
        assert [one["id"] for one in model["checks"]] == [one.check.id for one in listed()]
        for one in model["checks"]:
            assert one["flag"] in ("valid", "void", "suspect", "not run")
            assert one["question"]
            assert one["statistic"] is not None or one["reason"]
        by_id = {one["id"]: one for one in model["checks"]}
        for name in ("S6", "S10", "S11", "S12", "S13", "S18", "S19"):
            assert by_id[name]["flag"] != "not run", by_id[name]


def swept(study: Experiment, best: int, diverged: int | None = None) -> list[Trace]:
    """A sweep whose best rate is the one at that place."""
    found: list[Trace] = []
    for place, trial in enumerate(calibration(study)):
        score = 1.0 if place == best else 0.2
        points = (
            Point(spent=Spent(), scores={"task": (0.0,)}),
            Point(spent=Spent(steps=2), scores={"task": (score,)}),
        )
        status = "diverged" if diverged is not None and place >= diverged else "ok"
        found.append(Trace(trial=trial, status=status, points=points))
    return found


def test_a_sweep_with_its_best_at_the_edge_goes_three_times_further(study: Experiment) -> None:
    trials = calibration(study)
    rates = [float(trial.attack.fields["lr"]) for trial in trials]
    assert extension(study, swept(study, 3)) == []
    for place, beyond in ((0, rates[0] / 3), (6, rates[6] * 3)):
        traces = swept(study, place)
        (more,) = extension(study, traces)
        assert more.attack.fields["lr"] == pytest.approx(beyond, rel=0.01)
        assert replace(more, attack=trials[0].attack) == trials[0]
        assert stars(traces)["full-adamw"] == rates[place]


def test_a_rate_that_diverged_bounds_the_sweep(study: Experiment) -> None:
    assert extension(study, swept(study, 4, diverged=5)) == []
