"""One call for a whole study: what a person types runs, and is what the command line makes."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

import titer
from tests import toy
from tests.cli.conftest import Run
from tests.cli.conftest import titer as command
from titer.api.studies import Asked, How
from titer.core.modelfolder import folder_digest
from titer.core.study import Manifest
from titer.plan.manifest import read_config
from titer.verify.findings import findings

__all__ = ["command"]

# The run folder is made once.
pytestmark = pytest.mark.xdist_group("bench")

TYPED = """\
import titer

world = titer.world({data!r})
base  = titer.load({model!r})
safe  = titer.immunise(base, "npo", world["alloy"], steps=2, lr=1e-3)
trace = titer.attack(safe, "S03", world["alloy"], steps=3, seed=0)
trace.harm, trace.utility, trace.outcome

verdict = titer.bench(safe, undefended=base, suite="quick", data=world, out="runs/mine",
                      cap=1, seeds=1, workers=1)
found = verdict["npo"].resistance.weak.interval
outcome = verdict["npo"].attacks["P02"].outcome
verdict.to_html("report.html")
again = titer.read("runs/mine")
titer.methods("attack"); titer.card("attack", "gcg")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    toy.model_folder(root / "llama")
    toy.data_folder(root / "data")
    return root


@pytest.fixture(scope="module")
def typed(place: Path) -> dict[str, Any]:
    """What is left of the lines that a person types, in an empty folder."""
    space: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        code = TYPED.format(data=str(place / "data"), model=str(place / "llama"))
        exec(compile(code, "typed", "exec"), space)
    return space


@pytest.mark.slow
def test_what_a_person_types_runs(typed: dict[str, Any], place: Path) -> None:
    verdict = typed["verdict"]
    assert isinstance(verdict, titer.Verdict)
    assert [model.name for model in verdict] == ["undefended", "npo"]
    assert len(typed["found"]) == 2
    assert typed["outcome"] == verdict["npo"].attacks["P02"].outcome
    assert typed["trace"].steps == (0, 1, 3)
    assert "<html" in (place / "report.html").read_text(encoding="utf-8")
    assert typed["again"] == verdict


@pytest.mark.slow
def test_the_run_folder_is_whole(typed: dict[str, Any], place: Path, command: Run) -> None:
    run = place / "runs" / "mine"
    assert [one for one in findings(run) if one.kind == "fault"] == []
    written = json.loads((run / "report" / "verdict.json").read_text(encoding="utf-8"))
    assert titer.Verdict.from_json(written) == typed["verdict"]
    assert command("validate", run)[0] == 0
    assert "study.yaml" in (run / "SHA256SUMS").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_model_of_this_process_is_kept_in_the_run_folder_and_one_from_disk_is_not(
    typed: dict[str, Any], place: Path
) -> None:
    study: Manifest = read_config(place / "runs" / "mine").study
    base, safe = study.models
    assert (base.source, base.digest) == (str(place / "llama"), folder_digest(place / "llama"))
    assert safe.source == "models/npo"
    kept = titer.load(place / "runs" / "mine" / "models" / "npo")
    assert kept.origin == safe.digest
    assert kept.digest() == typed["safe"].digest()


@pytest.mark.slow
def test_the_study_of_a_run_folder_makes_it_again(
    typed: dict[str, Any], place: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    run = Path("runs/mine")
    asked = titer.Study.from_yaml(run / "study.yaml")
    assert asked.out == run
    assert asked.models == ("runs/mine/models/npo",)
    assert asked.command() == typed["verdict"].reproduce.command
    results = (run / "results.jsonl").read_bytes()
    other = Path("runs/other")
    code, _, err = command("bench", run / "study.yaml", "--out", other, "--workers", "1", "--json")
    assert code == 0, err
    assert "runs/mine/study.yaml: out is runs/mine; runs/other is taken." in err
    assert (other / "results.jsonl").read_bytes() == results
    assert titer.Study.from_yaml(other / "study.yaml") == replace(asked, out=other)
    before = (run / "results.jsonl").stat().st_mtime_ns
    assert titer.bench(run / "study.yaml", workers=1) == typed["verdict"]
    assert titer.bench(asked, workers=1) == typed["verdict"]
    assert (run / "results.jsonl").stat().st_mtime_ns > before, "written, from what is there"


@pytest.mark.slow
def test_validate_knows_the_study(
    typed: dict[str, Any], place: Path, tmp_path: Path, command: Run
) -> None:
    import shutil

    def faults(run: Path) -> list[tuple[str, str]]:
        found = [one for one in findings(run) if one.kind == "fault"]
        return [(one.check, one.where) for one in found]

    run = Path(shutil.copytree(place / "runs" / "mine", tmp_path / "run"))
    (run / "study.yaml").unlink()
    sums = (run / "SHA256SUMS").read_text().splitlines(keepends=True)
    (run / "SHA256SUMS").write_text("".join(one for one in sums if "study.yaml" not in one))
    assert faults(run) == [], "folders of older versions have none"
    assert titer.read(run) == typed["verdict"]
    whole = (place / "runs" / "mine" / "study.yaml").read_text()
    for text, said in (
        (whole.replace("seeds: 1", "seeds: 2"), "asks for another study than config.yaml says"),
        (whole.replace("seeds: 1", "sedes: 1"), "Did you mean 'seeds'?"),
    ):
        (run / "study.yaml").write_text(text)
        assert ("layout", "study.yaml") in faults(run)
        code, out, _ = command("validate", run)
        assert code == 1
        assert said in out


@pytest.mark.slow
def test_another_model_by_a_name_that_is_taken_is_refused(
    typed: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    other = replace(titer.load(toy.model_folder(place / "other", seed=1)), name="npo")
    more = {"undefended": typed["base"], "data": typed["world"], "out": "runs/mine", "cap": 1}
    with pytest.raises(titer.BadInput, match=r"models/npo holds another model.*another name"):
        titer.bench(other, seeds=1, workers=1, **more)
    kept = titer.load(place / "runs" / "mine" / "models" / "npo")
    assert kept.digest() == typed["safe"].digest()


# -- what is asked ---------------------------------------------------------------------------------


def test_the_call_has_the_fields_of_a_study() -> None:
    """Written out for editors and for `help`, and one list all the same."""
    signature = inspect.signature(titer.bench).parameters
    assert list(signature) == ["models", *get_type_hints(Asked)]
    for spec in fields(titer.Study):
        given = signature[spec.name]
        if spec.name in ("settings", "models"):
            continue
        default = str(spec.default) if spec.name == "out" else spec.default
        assert given.default == default, spec.name
        assert f"{spec.name}:" in (titer.bench.__doc__ or ""), spec.name
    how = set(signature) - {spec.name for spec in fields(titer.Study)}
    assert how == {spec.name for spec in fields(How)}
    assert all(f"{name}:" in (titer.bench.__doc__ or "") for name in how)


def test_every_fault_is_said_and_nothing_is_written(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = titer.load(place / "llama")
    changed = base.clone()
    with pytest.raises(titer.BadInput) as caught:
        titer.bench(changed, data=place / "data", out=out, suite="quik", seeds=0, defences="npoo")
    assert len(caught.value.faults) == 3
    with pytest.raises(titer.BadInput, match=r"no argument 'sedes'\. Did you mean 'seeds'"):
        titer.bench(base, sedes=1)  # type: ignore[call-arg]
    with pytest.raises(titer.BadInput, match="two models are named"):
        titer.bench([replace(changed, name="m"), replace(base.clone(), name="m")], out=out)
    with pytest.raises(titer.BadInput, match="is not on disk"):
        titer.bench(base, data=replace(titer.world(place / "data"), source=""), out=out)
    with pytest.raises(titer.BadInput, match="add --defence NAME"):
        titer.bench(base, data=place / "data", settings={"lr": 1e-3}, out=out)
    with pytest.raises(titer.BadInput, match="there is no model to test"):
        titer.bench(titer.Study(data=str(place / "data"), out=out))
    with pytest.raises(titer.BadInput, match="give 1 or more"):
        titer.bench(base, data=place / "data", out=out, workers=0)
    with pytest.raises(titer.BadInput, match="is no run folder"):
        titer.read(out)
    assert not out.exists()


def test_a_model_that_was_trained_after_it_was_loaded_is_not_the_one_on_disk(
    place: Path, tmp_path: Path
) -> None:
    import torch

    from titer.models import source_of

    own: dict[str, titer.LM] = {}
    base = titer.load(place / "llama")
    assert source_of(base, tmp_path, own) == str(place / "llama")
    with torch.no_grad():
        base.model.lm_head.weight += 1
    assert source_of(base, tmp_path, own) == str(tmp_path / "models" / "llama")
    assert own == {str(tmp_path / "models" / "llama"): base}
    renamed = titer.load(place / "llama", name="owner/a model")
    assert source_of(renamed, tmp_path, own) == str(tmp_path / "models" / "owner_a_model")


def test_a_study_is_a_plain_value(tmp_path: Path) -> None:
    study = titer.Study(
        models=["a", "b c"], defences="npo+rmu", settings={"npo.lr": 1e-3}, shares=0.3, cap=2,
        why=True, out="x",
    )  # fmt: skip
    assert study.models == ("a", "b c")
    assert study.shares == (0.3,)
    assert study.out == Path("x")
    study.to_yaml(tmp_path / "study.yaml")
    assert titer.Study.from_yaml(tmp_path / "study.yaml") == study
    raw = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert list(raw) == [spec.name for spec in fields(titer.Study)], "exactly the fields"
    assert study.command() == (
        "titer bench a 'b c' --suite quick --seeds 3 --cap 2 --defence npo+rmu "
        "--set npo.lr=0.001 --share 0.3 --why --out x"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modells: [a]", "no field 'modells'. Did you mean 'models'?"),
        ("models: a\nseeds: many", "seeds: input should be a valid integer"),
        ("models: {a: 1}", "models: input should be a valid tuple"),
        ("- a", "holds no study"),
        ("", "holds no study"),
        ("models: [", "cannot be read"),
        (None, "there is no study"),
    ],
)
def test_a_file_that_is_no_study_is_one_sentence(
    command: Run, tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "study.yaml"
    if text is not None:
        file.write_text(text)
    code, out, err = command("bench", file, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_options_override_the_file_and_say_so(command: Run, place: Path, tmp_path: Path) -> None:
    study = titer.Study(
        models=(str(place / "llama"),), data=str(place / "data"), seeds=3, out=tmp_path / "run"
    )
    study.to_yaml(tmp_path / "study.yaml")
    words = ("bench", tmp_path / "study.yaml", "--dry-run", "--json")
    code, plain, err = command(*words)
    assert (code, err) == (0, "")
    code, fewer, err = command(*words, "--seeds", "1", "--set", "lr=1e-3", "--defence", "npo")
    assert code == 0
    assert err.splitlines() == [
        f"{tmp_path / 'study.yaml'}: {line}"
        for line in (
            "seeds is 3; 1 is taken.",
            "defences is none; npo is taken.",
            "settings is none; lr=1e-3 is taken.",
        )
    ]
    plan, changed = json.loads(plain), json.loads(fewer)
    assert (plan["immunisations"], changed["immunisations"]) == (0, 1)
    assert changed["steps"] < plan["steps"]
    assert not (tmp_path / "run").exists()
