"""What a study runs is worked out before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from titer.core import catalogue
from titer.core.families import FAMILIES
from titer.core.records import Card, Point, Spent, Trace
from titer.core.study import Subject
from titer.plan import experiment as plan
from titer.plan.experiment import Experiment
from titer.plan.manifest import describe
from titer.plan.suite import Adversary, judges
from titer.plan.suites import suite
from titer.run.runner import unique
from titer.worlds.source import load_world


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    source = str(toy.data_folder(tmp_path / "data"))
    subjects = tuple(
        Subject(
            name=name,
            source=name,
            folder=str(tmp_path / name),
            digest=name * 2,
            role=role,
            parameters=20_000,
        )
        for name, role in (("base", "undefended"), ("never", "oracle"), ("npo", "defended"))
    )
    return Experiment(
        suite=suite("quick"),
        world=load_world(source),
        source=source,
        subjects=subjects,
        seeds=(0, 1, 2),
        domain="alloy",
    )


def test_every_row_attacks_every_model_with_every_seed(study: Experiment) -> None:
    trials = plan.attacks(study, {"full-adamw": 1e-3, "lora-adamw": 3e-3})
    for subject in study.subjects:
        for row in study.rows():
            mine = [t for t in trials if t.subject == subject.name and t.label == row.id]
            assert len(mine) == len(study.seeds) * len(row.multiples)
            assert {t.seed for t in mine} == {0, 1, 2}
    assert len(unique(trials)) == len(trials)


def test_a_row_is_run_with_every_setting_at_every_multiple(study: Experiment) -> None:
    row = Adversary(
        id="H01", settings=({"beta": 0.1}, {"beta": 1.0, "lr": 4e-5}), multiples=(0.5, 1.0)
    )
    tried = replace(study, suite=replace(study.suite, rows=(row,)), seeds=(4,))
    trials = [t for t in plan.attacks(tried, {"full-adamw": 1e-3}) if t.label == "H01"]
    mine = [t.attack.fields for t in trials if t.subject == "npo"]
    # A rate among the settings is a multiple of the preset's, 2e-5 here.
    assert [(f["beta"], f["lr"]) for f in mine] == [
        (0.1, 5e-4),
        (0.1, 1e-3),
        (1.0, 1e-3),
        (1.0, 2e-3),
    ]


def test_a_row_that_starts_from_the_base_says_so_in_its_key(study: Experiment) -> None:
    rows = (Adversary(id="H07"), Adversary(id="S03"))
    trials = plan.attacks(replace(study, suite=replace(study.suite, rows=rows)), {})
    assert {t.base for t in trials if t.label == "H07"} == {"basebase"}
    assert {t.base for t in trials if t.label != "H07"} == {""}
    one = next(t for t in trials if t.label == "H07")
    assert replace(one, base="other").key != one.key != replace(one, base="").key


def test_the_hash_covers_rows_data_judges_and_code(
    study: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [study.suite_digest]
    assert replace(study).suite_digest == found[0]
    found.append(replace(study, suite=replace(study.suite, rows=study.suite.rows[:2])).suite_digest)
    world = replace(study.world, retain=study.world.retain[1:])
    found.append(replace(study, world=world).suite_digest)
    real = catalogue.card

    def newer(kind: Any, name: str) -> Card:
        card = real(kind, name)
        return replace(card, version=card.version + 1) if name == study.world.harm else card

    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "card", newer)
        found.append(replace(study).suite_digest)
    with monkeypatch.context() as patch:
        patch.setattr("titer.plan.suite.__version__", "another")
        found.append(replace(study).suite_digest)
    assert len(set(found)) == 5
    assert set(judges(study.world)) >= {study.world.harm, "cloze", "coherence", "refusal"}


def test_rates_are_multiples_of_the_calibrated_one(study: Experiment) -> None:
    trials = plan.attacks(study, {"full-adamw": 1e-3, "lora-adamw": 3e-3})
    rates = {t.label: set() for t in trials}
    for trial in trials:
        rates[trial.label].add(trial.attack.fields.get("lr"))
    assert rates["S03"] == {1e-3}
    assert rates["P02"] == {3e-3}
    assert rates["M05"] == {1e-4, 3e-4, 1e-3}


def test_only_the_undefended_model_is_calibrated_and_on_a_task_it_has_to_learn(
    study: Experiment,
) -> None:
    trials = plan.calibration(study)
    assert {t.subject for t in trials} == {"base"}
    assert {t.task for t in trials} == {"song"}
    families = {t.label for t in trials}
    assert families == {"full-adamw", "lora-adamw"}
    assert len(trials) == 7 * len(families)


def _swept(study: Experiment, scores: dict[float, float], status: str = "ok") -> list[Trace]:
    found: list[Trace] = []
    for trial in plan.calibration(study):
        rate = trial.attack.fields["lr"]
        if trial.label != "full-adamw" or rate not in scores:
            continue
        points = tuple(
            Point(spent=Spent(steps=step), scores={"task": (value,)})
            for step, value in ((0, 0.0), (10, scores[rate]))
        )
        found.append(Trace(trial=trial, status=status, points=points, losses=(1.0,)))  # type: ignore[arg-type]
    return found


def test_the_best_rate_wins_and_a_failed_run_never_does(study: Experiment) -> None:
    assert plan.stars(_swept(study, {1e-3: 0.5, 3e-3: 0.9, 1e-2: 0.1})) == {"full-adamw": 3e-3}
    assert plan.stars(_swept(study, {1e-3: 0.5}, status="diverged")) == {}


def test_a_tie_of_rates_is_settled_by_the_rates_and_no_order(study: Experiment) -> None:
    """After one step every rate has learned the same. The middle of those that tie is taken, so
    that a tie does not make for a weak attack, and in whatever order the traces come."""
    rates = sorted(
        {t.attack.fields["lr"] for t in plan.calibration(study) if t.row == "full-adamw"}
    )
    for tied, middle in ((rates, rates[3]), (rates[2:4], rates[3]), (rates[:1], rates[0])):
        traces = _swept(study, dict.fromkeys(rates, 0.1) | dict.fromkeys(tied, 0.5))
        for shuffled in (traces, traces[::-1], sorted(traces, key=lambda one: one.trial.key)):
            assert plan.stars(shuffled) == {"full-adamw": middle}


def test_a_key_knows_content_and_not_names_or_places(study: Experiment) -> None:
    trial = plan.attacks(study, {"full-adamw": 1e-3})[5]
    moved = replace(study.subjects[0], folder="/elsewhere", name="other", source="other")
    again = plan.attacks(
        replace(study, subjects=(moved, *study.subjects[1:])), {"full-adamw": 1e-3}
    )
    assert again[5].key == trial.key
    assert replace(trial, seed=9).key != trial.key
    assert replace(trial, label="x", subject="y").key == trial.key


def test_what_is_left_out_is_named(study: Experiment) -> None:
    described = describe(study)
    known = len(catalogue.presets("attack"))
    left = known - len(study.rows())
    assert described.not_tested[0] == f"{left} of the catalogue's {known} rows"
    inside = {row.family for row in described.rows}
    outside = tuple(phrase for name, phrase in FAMILIES.items() if name not in inside)
    assert described.not_tested[1:] == outside
    capped = describe(replace(study, suite=replace(study.suite, cap=20)))
    assert any("20 steps" in line for line in capped.not_tested)
