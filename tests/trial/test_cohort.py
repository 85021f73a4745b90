"""Trials in a cohort against the same trials by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.pretend import pretended, send
from tests.toy import data_folder, model_folder
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.records import Budget, Trial, part
from titer.trial import cohort, recorder
from titer.trial.attempt import attack
from titer.trial.cohort import attack_together
from titer.worlds.source import load_world


def _trial(seed: int, **fields: object) -> Trial:
    method = part("finetune", catalogue.build("attack", "finetune", {"lr": 1e-2, **fields}))
    return Trial(
        model="m",
        world="w",
        domain="alloy",
        attack=method,
        budget=Budget(steps=6),
        seed=seed,
        suite="s",
        checkpoints=(0, 1, 3, 6),
    )


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_trials_say_together_what_they_say_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str
) -> None:
    lm = LM.load(model_folder(tmp_path / "m"))
    world = load_world(str(data_folder(tmp_path / "d")))
    trials = [
        _trial(0, parameters=parameters),
        _trial(1, parameters=parameters, optimiser="schedule-free"),
        _trial(2, parameters=parameters, lr=3e-3, schedule="cosine"),
    ]
    passes: list[int] = []
    own = recorder.ask_each

    def counted(lm: LM, asked: object, copies: int) -> object:
        passes.append(copies)
        return own(lm, asked, copies)  # type: ignore[arg-type]

    monkeypatch.setattr(recorder, "ask_each", counted)
    together = [trace for trace, _, _ in attack_together(lm, trials, world)]
    assert passes == [3, 3], "steps 1 and 3 were looked at in one pass"
    keys = tuple(trial.key for trial in trials)
    for trial, trace in zip(trials, together, strict=True):
        single, _, _ = attack(lm, trial, world)
        assert trace.cohort == keys
        assert single.cohort == ()
        assert trace.status == single.status == "ok"
        assert [point.spent for point in trace.points] == [point.spent for point in single.points]
        assert trace.losses == pytest.approx(single.losses, rel=1e-3)
        for point, other in zip(trace.points, single.points, strict=True):
            assert set(point.scores) == set(other.scores)


def test_a_cohort_that_falls_apart_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = LM.load(model_folder(tmp_path / "m"))
    world = load_world(str(data_folder(tmp_path / "d")))
    trials = [_trial(seed, parameters="lora") for seed in (0, 1)]

    def broken(*_: object) -> None:
        raise MemoryError("no room for two")

    monkeypatch.setattr(cohort, "together", broken)
    done = list(attack_together(lm, trials, world))
    for trial, (trace, _, _) in zip(trials, done, strict=True):
        assert trace.status == "ok"
        assert trace.weights == attack(lm, trial, world)[0].weights


def test_a_trial_that_starts_from_the_base_is_given_it(tmp_path: Path) -> None:
    model = LM.load(model_folder(tmp_path / "m"))
    base = LM.load(model_folder(tmp_path / "b", seed=1))
    world = load_world(str(data_folder(tmp_path / "d")))
    method = part("transfer", catalogue.build("attack", "transfer", {"lr": 1e-2}))
    trial = replace(_trial(0), attack=method, base="b")
    given: list[int] = []

    def load() -> LM:
        given.append(1)
        return base

    ((trace, _, _),) = attack_together(model, [trial], world, base=load)
    assert (trace.status, given) == ("ok", [1])
    own, _, _ = attack(model, replace(trial, base=""), world)
    assert own.weights != trace.weights
    lost, _, _ = attack(model, trial, world)
    assert lost.status == "failed"
    assert "starts from the model b" in lost.error


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_a_cohort_runs_on_another_device_than_the_cpu(tmp_path: Path, parameters: str) -> None:
    world = load_world(str(data_folder(tmp_path / "d")))
    trials = [
        replace(_trial(seed, parameters=parameters), budget=Budget(steps=2), checkpoints=(0, 2))
        for seed in (0, 1)
    ]
    here = LM.load(model_folder(tmp_path / "m"))
    near = list(attack_together(here, trials, world))
    there = here.clone()
    with pretended():
        send(there.model)
        far = list(attack_together(there, trials, world))
    for (one, _, _), (two, _, _) in zip(near, far, strict=True):
        assert (two.status, two.error) == ("ok", "")
        assert len(two.cohort) == 2
        assert two.losses == pytest.approx(one.losses, rel=1e-3)
        last, other = one.points[-1].scores, two.points[-1].scores
        assert last.keys() == other.keys()
        for name, values in last.items():
            assert other[name] == pytest.approx(values, rel=1e-2, abs=1e-2), name
