"""The trials of a recorded study have the keys that they had, so that none is run again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from titer.core.records import Trial
from titer.core.study import Study
from titer.plan.experiment import attacks, calibration, training
from titer.plan.further import diagnoses
from titer.plan.request import assemble, check

RECORDED: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[1] / "data" / "recorded_keys.json").read_text(encoding="utf-8")
)
"""Keys by model and label of ``titer bench fabula:base --suite quick --cap 20 --seeds 2``, as
planned at the rates below."""

RATES = {"full-adamw": 1e-3, "lora-adamw": 9e-3}
"""What the sweeps came to."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    out = tmp_path_factory.mktemp("keys") / "run"
    asked = Study(models=("fabula:base",), suite="quick", cap=20, seeds=2, out=out)
    study, _ = assemble(check(asked))
    return [
        *calibration(study),
        *attacks(study, RATES),
        *training(study, RATES),
        *diagnoses(study, RATES),
    ]


def test_every_recorded_trial_is_planned_under_its_key(planned: list[Trial]) -> None:
    now: dict[str, set[str]] = {}
    for trial in planned:
        now.setdefault(f"{trial.subject} {trial.label}", set()).add(trial.key)
    for name, keys in RECORDED.items():
        # An extended sweep has a rate more than what is planned before it ran.
        extended = len(keys) - len(now[name])
        assert now[name] <= set(keys), name
        assert extended <= (2 if name.endswith("adamw") else 0), name
    assert set(now) == set(RECORDED)


def test_a_key_hangs_on_what_is_asked_and_on_no_name(planned: list[Trial]) -> None:
    trial = planned[0]
    named = replace(trial, label="x", subject="y", role="task", row="z", check="S1")
    assert named.key == trial.key
    assert replace(trial, seed=trial.seed + 1).key != trial.key
