"""Looking inside a study's models: resumable, apart from every score, and honest of failure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests import toy
from titer.core.errors import BadInput, UnknownName
from titer.core.method import Case
from titer.core.study import Difference, Study
from titer.executors.inline import Inline
from titer.plan.experiment import Experiment
from titer.plan.request import assemble, check
from titer.report.load import read_verdict
from titer.run.inside import inspections, look_inside
from titer.run.store import Store
from titer.trial.explain import Inspection, explain, pick
from titer.trial.load import load_model
from titer.worlds.source import load_world

pytestmark = pytest.mark.exact

FAST = ("logit_lens", "linear_probe")


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    request = Study(
        models=[str(toy.model_folder(tmp_path / name, seed)) for seed, name in enumerate("ab")],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
        why=True,
    )
    assert request.command().endswith(f"--why --out {tmp_path / 'run'}")
    return assemble(check(request))[0]


def _ran(monkeypatch: pytest.MonkeyPatch) -> list[Inspection]:
    ran: list[Inspection] = []

    def counted(job: Inspection) -> str:
        ran.append(job)
        return explain(job)

    monkeypatch.setattr("titer.run.inside.explain", counted)
    return ran


def test_every_model_is_looked_at_once(
    study: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ran = tmp_path / "run", _ran(monkeypatch)
    root.mkdir()
    assert look_inside(study, FAST, root, Inline()) == []
    assert len(ran) == 4
    first = Store(root).inside()
    assert {name: [one["measure"] for one in found] for name, found in first.items()} == {
        "a": list(FAST),
        "b": list(FAST),
    }
    assert look_inside(study, FAST, root, Inline()) == []
    assert len(ran) == 4
    (root / "inside" / f"{ran[1].key}.json").unlink()
    look_inside(study, FAST, root, Inline())
    assert [job.key for job in ran[4:]] == [ran[1].key]

    def readings(found: object) -> str:
        return json.dumps(found).split('"seconds"')[0]

    assert readings(Store(root).inside()) == readings(first)


def test_a_measure_that_fails_is_named_and_tried_again(
    study: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.measures.logit_lens import LogitLens

    root = tmp_path / "run"
    root.mkdir()

    def broken(self: LogitLens, case: Case) -> None:
        raise ValueError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(LogitLens, "look", broken)
        faults = look_inside(study, FAST, root, Inline())
    assert faults == [f"logit_lens on {name}: ValueError: no such thing" for name in "ab"]
    assert [[r["measure"] for r in found] for found in Store(root).inside().values()] == [
        ["linear_probe"],
        ["linear_probe"],
    ]
    assert look_inside(study, FAST, root, Inline()) == []


def test_keys_know_models_and_settings_and_no_places(study: Experiment, tmp_path: Path) -> None:
    jobs = inspections(study, pick(FAST), tmp_path)
    assert len({job.key for job in jobs}) == len(jobs) == 4
    job = jobs[0]
    assert (
        replace(job, folder="x", base_folder="y", out="z", subject="s", source="t").key == job.key
    )
    for change in ({"model": "m"}, {"base": "m"}, {"derived": False}, {"seed": 1}):
        assert replace(job, **change).key != job.key


def test_only_measures_that_look_inside_are_taken(tmp_path: Path) -> None:
    assert [one.name for one in pick(())] == [
        "curvature",
        "g_effect",
        "linear_probe",
        "logit_lens",
        "task_vector",
    ]
    with pytest.raises(UnknownName, match="looks inside"):
        pick(["choice"])
    data = toy.data_folder(tmp_path / "data")
    manifest = data / "data.yaml"
    manifest.write_text(
        manifest.read_text().replace(
            "{measure: choice, chance: 0.33, also", "{measure: g_effect, chance: 0.33, also"
        )
    )
    with pytest.raises(BadInput, match="no measure: 'g_effect'"):
        load_world(str(data))


def test_a_price_is_read_from_models_of_this_run_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    spent = {"steps": 3, "tokens": 10, "examples": 2, "flops": 5.0}
    for home in ("models/k", "elsewhere"):
        (tmp_path / home).mkdir(parents=True)
        (tmp_path / home / "titer.json").write_text(json.dumps({"spent": spent, "seconds": 1.5}))
    assert store.price("models/k") == {**spent, "seconds": 1.5}
    assert store.price("elsewhere") == {}
    assert store.price("models/../elsewhere") == {}
    assert store.price(str(tmp_path / "elsewhere")) == {}


def test_a_run_without_it_has_nothing_inside_and_damage_is_said(
    study: Experiment, tmp_path: Path
) -> None:
    from titer.plan.suite import Adversary
    from titer.plan.suites import suite
    from titer.run.runner import run_study

    root = tmp_path / "run"
    tiny = replace(suite("quick"), rows=(Adversary(id="S03"),), cap=1, task_steps=1, sweep_steps=1)
    run_study(replace(study, suite=tiny, tasks=()), root, Inline())
    assert [model["inside"] for model in read_verdict(root).to_json()["models"]] == [[], []]
    look_inside(study, ["logit_lens"], root, Inline())
    assert all(model["inside"][0]["readings"] for model in read_verdict(root).to_json()["models"])
    next((root / "inside").glob("*.json")).write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        read_verdict(root).to_json()


def test_a_look_goes_through_the_undefended_interface(study: Experiment, tmp_path: Path) -> None:
    """What a template hides from an attacker, it hides from no look; what does not differ keeps its
    key."""
    base, other = study.subjects
    plain = inspections(study, pick(FAST[:1]), tmp_path)
    masked = replace(other, differs=(Difference("chat template"),))
    looks = inspections(replace(study, subjects=(base, masked)), pick(FAST[:1]), tmp_path)
    assert [job.interface for job in looks] == ["", base.digest]
    assert looks[0].key == plain[0].key
    assert looks[1].key != plain[1].key
    template = Path(other.folder) / "chat_template.jinja"
    template.write_text("heat {{ messages[0]['content'] }}", encoding="utf-8")
    found: list[object] = []
    for job in (plain[1], looks[1]):
        assert explain(job) == "ok"
        found.append(Store(tmp_path).inspection(job.key)["readings"])
    template.write_text((Path(base.folder) / template.name).read_text(encoding="utf-8"))
    load_model.cache_clear()
    assert explain(plain[1]) == "ok"
    assert Store(tmp_path).inspection(plain[1].key)["readings"] == found[1]
    assert found[0] != found[1]
