"""What a plan calls its trials: by fields today, by labels alone until 0.1.0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import toy
from titer.core.records import Trace, Trial
from titer.core.study import Study
from titer.plan.experiment import Experiment, attacks, calibration, training
from titer.plan.further import diagnoses, further
from titer.plan.request import assemble, check
from titer.run.entries import Entry, read_entry
from titer.run.store import Store


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    request = Study(
        models=(str(toy.model_folder(tmp_path / "a")), str(toy.model_folder(tmp_path / "b", 1))),
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        suite="core",
        seeds=1,
    )
    return assemble(check(request))[0]


def every(study: Experiment) -> list[Trial]:
    """Every kind of trial that a study plans."""
    rates = {"full-adamw": 1e-3}
    held = [Trace(trial=trial, status="failed") for trial in attacks(study, rates)]
    trials = [*calibration(study), *attacks(study, rates), *training(study, rates)]
    return [*trials, *diagnoses(study, rates), *further(study, rates, held)]


def test_every_trial_says_what_it_is_for(study: Experiment) -> None:
    trials = every(study)
    assert {trial.role for trial in trials} == {"adversary", "rate", "baseline", "task", "check"}
    for trial in trials:
        entry = Entry.of(trial)
        assert read_entry(json.loads(json.dumps(entry.to_json()))) == entry
    rows = {trial.row for trial in trials if trial.role == "adversary"}
    assert rows == {row.id for row in study.rows()}


def test_a_plan_of_labels_alone_reads_the_same(study: Experiment, tmp_path: Path) -> None:
    entries = [Entry.of(trial) for trial in every(study)]
    old = [{"key": e.key, "label": e.label, "subject": e.subject} for e in entries]
    (tmp_path / "plan.json").write_text(json.dumps(old))
    assert Store(tmp_path).plan() == entries


def test_names_are_the_plan_s_and_stay_out_of_the_key(study: Experiment, tmp_path: Path) -> None:
    trial = attacks(study, {})[-1]
    store = Store(tmp_path)
    store.put(Trace(trial=trial, status="ok"))
    other = Entry(
        key=trial.key, label="long", subject="mine", role="check", row="unbounded", check="S4"
    )
    named = store.named(other).trial
    assert Entry.of(named) == other
    assert named.key == trial.key


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("S03", "no key, label and subject"),
        ({"key": "../etc", "label": "S03", "subject": "m"}, "is no key"),
        ({"key": "0" * 16, "label": "S03", "subject": "m", "role": "check"}, "no role, row and"),
        (
            {"key": "0" * 16, "label": "", "subject": "m", "role": "king", "row": "", "check": ""},
            "'king' is no role",
        ),
    ],
)
def test_an_entry_that_is_none_is_refused(entry: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_entry(entry)
