"""Through which interface a study attacks a model, and by which salt it deals its items."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests import toy
from titer.core.errors import BadInput
from titer.core.records import Point, Spent, Trace, Trial
from titer.core.study import Difference, Study, Subject
from titer.defences import none
from titer.evidence.curves import retained
from titer.evidence.gather import gather
from titer.plan.experiment import Experiment, attacks, training
from titer.plan.further import diagnoses
from titer.plan.interfaces import looks, settled
from titer.plan.request import assemble, check, dealt
from titer.plan.schedule import stages
from titer.plan.suite import Adversary
from titer.plan.suites import suite
from titer.worlds.source import load_world, world_salt

pytestmark = pytest.mark.exact


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    """An undefended model, one of another template, and one of the same interface."""
    models = [toy.model_folder(tmp_path / name, seed) for seed, name in enumerate("abc")]
    template = models[1] / "chat_template.jinja"
    template.write_text("heat " + template.read_text(encoding="utf-8"), encoding="utf-8")
    request = Study(
        models=tuple(map(str, models)),
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
    )
    small = replace(suite("quick"), rows=(Adversary(id="S03"),), cap=4)
    return replace(assemble(check(request))[0], suite=small)


def seen(trials: list[Trial], clean: tuple[float, float], own: tuple[float, float]) -> list[Trace]:
    """Looks with these levels of harm and use through the undefended model's interface and the
    release's own."""
    found: list[Trace] = []
    for trial in trials:
        harm, use = clean if trial.interface else own
        scores = {
            "harm": tuple([1.0] * round(10 * harm) + [0.0] * round(10 * (1 - harm))),
            "utility:river": tuple([1.0] * round(10 * use) + [0.0] * round(10 * (1 - use))),
        }
        point = Point(spent=Spent(), scores=scores)
        found.append(Trace(trial=trial, status="ok", points=(point,)))
    return found


def through(study: Experiment, subject: Subject) -> dict[str, set[str]]:
    """By label, the interfaces that a model's trials go through."""
    rates = {"full-adamw": 1e-3}
    trials = [*attacks(study, rates), *training(study, rates), *diagnoses(study, rates)]
    found: dict[str, set[str]] = {}
    for trial in trials:
        if trial.model == subject.digest:
            found.setdefault(trial.label, set()).add(trial.interface)
    return found


def test_what_differs_is_found_before_anything_runs(study: Experiment) -> None:
    assert [one.differs for one in study.subjects] == [(), (Difference("chat template"),), ()]


def test_only_a_model_that_differs_is_looked_at_twice(study: Experiment) -> None:
    base, release, _ = study.subjects
    found = looks(study)
    assert {trial.subject for trial in found} == {release.name}
    assert [(trial.model, trial.interface) for trial in found] == [
        (release.digest, ""),
        (release.digest, base.digest),
        (base.digest, release.digest),
    ]
    assert all((t.role, t.check, t.attack.name) == ("check", "S19", "noop") for t in found)
    first = next(stages(study))
    asked = {trial.key for trial in found}
    assert asked <= {t.key for t in first.run}, "they come first"
    assert asked <= {t.key for t in first.planned}
    alike = replace(study, subjects=(base, study.subjects[2]))
    assert looks(alike) == []
    assert settled(alike, []) == alike


@pytest.mark.parametrize(
    ("clean", "own"),
    [((1.0, 1.0), (0.1, 0.0)), ((0.3, 0.9), (0.3, 0.9)), ((0.9, 0.9), (0.3, 0.9))],
)
def test_the_undefended_interface_alone_where_it_is_as_strong(
    study: Experiment, clean: tuple[float, float], own: tuple[float, float]
) -> None:
    base, release, other = study.subjects
    chosen = settled(study, seen(looks(study), clean, own))
    found = through(chosen, release)
    assert found.pop("none") == {""}, "as it was released it is looked at too"
    assert set(found) >= {"S03", "weights", "splits"}
    assert all(one == {base.digest} for one in found.values())
    assert all(one == {""} for one in through(chosen, other).values())
    assert through(chosen, base) == through(study, base)


@pytest.mark.parametrize(
    ("clean", "own"), [((0.2, 0.9), (0.4, 0.9)), ((0.4, 0.1), (0.3, 0.9)), ((0.3, 0.5), (0.3, 0.9))]
)
def test_both_where_the_release_shows_more_harm_or_use(
    study: Experiment, clean: tuple[float, float], own: tuple[float, float]
) -> None:
    base, release, _ = study.subjects
    chosen = settled(study, seen(looks(study), clean, own))
    found = through(chosen, release)
    assert found.pop("S03") == {"", base.digest}
    assert all(one == {""} for one in found.values())


def test_a_look_that_failed_leaves_both(study: Experiment) -> None:
    release = study.subjects[1]
    assert through(settled(study, []), release)["S03"] == {"", study.undefended().digest}


def test_the_same_attack_through_another_interface_has_another_key(study: Experiment) -> None:
    trial = attacks(study, {})[0]
    assert replace(trial, interface="x").key != trial.key
    read = Trace.from_json(Trace(trial=trial, status="ok").to_json()).trial
    assert read.key == trial.key


def test_harm_counts_as_the_larger_and_use_as_its_own(study: Experiment) -> None:
    """A run through another interface than the most harmful is held against the use that the model
    was of through it."""
    chosen = settled(study, seen(looks(study), (0.4, 0.2), (0.3, 0.9)))
    release = study.subjects[1]
    trials = [t for t in attacks(chosen, {}) if t.model == release.digest and t.label == "S03"]
    traces = seen(trials, (0.4, 0.2), (0.3, 0.9))
    evidence = gather(traces, subject=release.name, domain=study.domain, seeds=(0,))
    assert evidence.before is not None
    assert evidence.before.mean() == pytest.approx(0.4)
    assert evidence.utility["river"] == pytest.approx(0.2)
    assert {arm.interface for arm in evidence.arms} == {"", study.undefended().digest}
    for arm in evidence.arms:
        assert retained(arm.runs[0], evidence.utility)[0] == pytest.approx(1.0)


# -- salt ------------------------------------------------------------------------------------------


def test_items_are_dealt_anew_for_models_from_elsewhere(tmp_path: Path) -> None:
    model, other = (toy.model_folder(tmp_path / name, seed) for seed, name in enumerate("ab"))
    asked = Study(models=(str(model), "fabula:base"), out=tmp_path / "run")
    found = dealt(asked)
    assert found == dealt(asked), "the same models have the same"
    assert world_salt(found.data)
    assert found.data in found.command(), "it is published"
    assert f"data: {found.data}" in found.to_yaml()
    assert dealt(replace(asked, models=(str(other),))).data != found.data
    assert dealt(found) == found
    world = load_world(found.data)
    assert world.digest() != load_world("fabula").digest()


def test_a_broken_model_keeps_none_from_being_dealt(tmp_path: Path) -> None:
    model, broken = (toy.model_folder(tmp_path / name) for name in "ab")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    asked = Study(models=(str(model), str(broken)), out=tmp_path / "run")
    assert world_salt(dealt(asked).data)


def test_a_model_in_memory_is_known_by_its_weights(tmp_path: Path) -> None:
    place = str(tmp_path / "run" / "models" / "mine")
    asked = Study(models=(place,), out=tmp_path / "run")
    one, two = (dealt(asked, {place: digest}).data for digest in ("a", "b"))
    assert world_salt(one) != world_salt(two)


def test_nothing_is_dealt_where_nobody_could_have_trained_against_it(tmp_path: Path) -> None:
    model = str(toy.model_folder(tmp_path / "a"))
    data = str(toy.data_folder(tmp_path / "data"))
    for asked in (
        Study(models=("fabula:base",), defences=("npo",), out=tmp_path / "run"),
        Study(models=(model,), data=data, out=tmp_path / "run"),
        Study(models=(model,), data="fabula~plain", out=tmp_path / "run"),
        Study(models=(str(tmp_path / "gone"),), out=tmp_path / "run"),
    ):
        assert dealt(asked) == asked


def test_items_are_dealt_anew_for_a_defence_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could have been written against the published report; its code and settings decide."""
    file = tmp_path / "brought_along.py"
    code = (Path(none.__file__)).read_text(encoding="utf-8")
    file.write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint(name="brought", value="brought_along", group="titer.defences")
    real = importlib.metadata.entry_points

    def entries(*, group: str) -> list[EntryPoint]:
        return [*real(group=group), *([entry] if group == entry.group else [])]

    monkeypatch.setattr(importlib.metadata, "entry_points", entries)
    asked = Study(models=("fabula:base",), defences=("npo+brought",), out=tmp_path / "run")
    found = dealt(asked)
    assert world_salt(found.data)
    assert found == dealt(asked), "the same defence has the same"
    assert dealt(replace(asked, settings={"npo.lr": "1e-4"})) != found
    file.write_text(f"{code}\n# and another line\n", encoding="utf-8")
    assert dealt(asked).data != found.data
    assert dealt(replace(asked, defences=("npo+none",))).data == "fabula"


def test_the_never_learned_model_is_compared_too(tmp_path: Path) -> None:
    """Whoever makes the reference may hide its harm as well as whoever makes the defence."""
    models = [toy.model_folder(tmp_path / name, seed) for seed, name in enumerate("abc")]
    template = models[2] / "chat_template.jinja"
    template.write_text("heat " + template.read_text(encoding="utf-8"), encoding="utf-8")
    request = Study(
        models=(str(models[0]), str(models[1])),
        oracle=str(models[2]),
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
    )
    study = assemble(check(request))[0]
    never = next(one for one in study.subjects if one.role == "oracle")
    assert never.differs == (Difference("chat template"),)
    found = through(settled(study, seen(looks(study), (1.0, 1.0), (0.1, 0.0))), never)
    assert found.pop("none") == {""}
    assert set().union(*found.values()) == {study.undefended().digest}


@pytest.mark.parametrize("salt", ["", "A", "x" * 33, "a b", "../x"])
def test_a_salt_that_is_none_is_said(salt: str) -> None:
    with pytest.raises(BadInput, match="has a salt that is none"):
        load_world(f"fabula~{salt}")
