"""A study of locks brings its controls, their relatives and what they are without the lock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from titer.attacks.finetune import Finetune
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.study import Study, Subject
from titer.executors.inline import Inline
from titer.plan.experiment import Experiment, _tried, attacks
from titer.plan.manifest import describe
from titer.plan.request import assemble, check
from titer.plan.suites import SUITES
from titer.run.defended import immunised
from titer.worlds.source import load_world

LOCKS = SUITES["locks"]


def test_every_control_is_a_lock_and_a_stage_before_it_is_the_unlocked_model() -> None:
    families = {one.name: one.family for one in catalogue.summaries("defence")}
    for text in LOCKS.controls:
        *before, last = text.split("+")
        assert families[last] == "lock"
        assert "+".join([*before, "none"]) in ("none", LOCKS.unlocked)
    assert {text.split("+")[-1] for text in LOCKS.controls} == {
        "gain_lock",
        "spectral_brake",
        "backward_lock",
        "keyed_basis",
    }


def test_the_battery_has_a_row_for_every_attack_of_the_protocol() -> None:
    rows = {row.id for row in LOCKS.rows}
    for number, wanted in enumerate(
        (
            {"L01", "L10", "L12"},  # fold
            {"L02", "L13"},  # plain modules
            {"W07", "L03", "P02"},  # other weights, own adapters, a block on top
            {"S02", "L04", "S07", "L05"},  # optimisers
            {"L11"},  # re-initialise and heal
            {"L06", "P02", "R03"},  # relearn
            {"L07"},  # distil
            {"L08"},  # public base
            {"L09"},  # keys
            {"V01", "V04", "N01"},  # representation
            {"W01", "W03", "W04"},  # prune, round, noise
            {"I04"},  # supply in context
        ),
        start=1,
    ):
        assert wanted <= rows, number


def test_what_undoes_a_lock_is_tried_with_all_that_plain_training_is_tried_with() -> None:
    """Otherwise effort tells which rates were tried, and not what a lock adds."""

    def tried(row_id: str) -> set[tuple[Any, ...]]:
        row = next(row for row in LOCKS.rows if row.id == row_id)
        rates = {"full-adamw": 1e-3, "full-sgd-nesterov": 0.1}
        builds = [
            catalogue.build("attack", one.name, dict(one.fields)) for one in _tried(row, rates)
        ]
        trained: list[Finetune] = [getattr(one, "_train", lambda one=one: one)() for one in builds]
        return {(one.optimiser, one.lr, one.parameters, one.clip, one.mix) for one in trained}

    plain = tried("S02") | tried("S07")
    assert tried("L01") | tried("L12") == plain
    assert tried("L02") | tried("L13") == plain
    rates = [lr for optimiser, lr, *_ in plain if optimiser == "adamw"]
    assert max(rates) / min(rates) == pytest.approx(1e4)
    assert len(rates) == len(tried("L04")) == 5


def test_relatives_are_of_the_models_size_or_there_is_no_such_control() -> None:
    assert LOCKS.around("fabula:base").relatives == (("keyed_basis", "fabula:aligned"),)
    assert LOCKS.around("fabula:base@small").relatives == (("keyed_basis", "fabula:aligned@small"),)
    assert LOCKS.around("fabula:base#3").relatives == (("keyed_basis", "fabula:aligned#3"),)
    own = LOCKS.around("models/own")
    assert own.relatives == ()
    assert "keyed_basis" not in own.controls
    assert own.digest() != LOCKS.digest()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """The suite on a toy model: its own models made, nothing attacked."""
    few = replace(LOCKS, rows=LOCKS.rows[:1])
    monkeypatch.setitem(SUITES, "locks", few)
    model, data = toy.model_folder(tmp_path / "model"), toy.data_folder(tmp_path / "data")
    request = Study(
        models=[str(model)], suite="locks", data=str(data), seeds=1, cap=2, out=tmp_path / "run"
    )
    made, plans = assemble(check(request))
    plans = [replace(plan, steps=2) for plan in plans]
    return immunised(made, plans, tmp_path / "run", Inline())


def test_controls_are_made_and_compared_with_the_model_they_lock(study: Experiment) -> None:
    roles = {one.name: one.role for one in study.subjects}
    made = {"npo+gain_lock", "npo+spectral_brake", "npo+backward_lock"}
    assert {name for name, role in roles.items() if role == "control"} == made
    assert roles["npo+none"] == "defended"
    found = describe(study).locks
    assert found is not None
    assert set(found.controls) == made
    bare = study.undefended().name
    assert found.unlocked == {**dict.fromkeys(made, "npo+none"), "npo+none": bare}


def test_what_is_locked_has_the_very_weights_of_the_unlocked_model(study: Experiment) -> None:
    """Otherwise effort would compare two runs of unlearning, and not a lock with none."""
    by_name = {one.name: LM.load(one.folder) for one in study.subjects}
    assert by_name["npo+backward_lock"].digest() == by_name["npo+none"].digest()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        free, locked = (
            by_name[name].model(input_ids=ids).logits for name in ("npo+none", "npo+gain_lock")
        )
    assert torch.equal(free, locked)


def test_a_relative_goes_to_its_control_alone(tmp_path: Path) -> None:
    world = load_world(str(toy.data_folder(tmp_path / "data")))

    def subject(name: str, role: str) -> Subject:
        return Subject(
            name=name,
            source=name,
            folder=name,
            digest=name,
            role=role,  # type: ignore[arg-type]
            parameters=1000,
        )

    found = Experiment(
        suite=LOCKS,
        world=world,
        source="toy",
        subjects=(subject("undefended", "undefended"), subject("keyed_basis", "control")),
        seeds=(0,),
        domain=next(iter(world.hazards)),
    )
    rows = {
        trial.subject: trial.attack.fields["reference"]
        for trial in attacks(found, {})
        if trial.label == "L08"
    }
    assert rows == {"undefended": None, "keyed_basis": "fabula:aligned"}
