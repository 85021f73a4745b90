"""The commands as a user types them: exit codes, sentences, and what is (not) written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import toy
from tests.cli.conftest import Run
from titer.core.diagnoses import diagnosis
from titer.core.lm import LM
from titer.plan.suites import suite
from titer.run.store import Store


def _refused(result: tuple[int, str, str], *said: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert "Traceback" not in err + out
    for text in said:
        assert text in err, err


# -- light and quick ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], ["list", "attacks"], ["list", "presets"], ["list", "models"], ["doctor"]]
)
def test_looking_around_imports_no_torch(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['titer', *{words!r}]\n"
        "from titer.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "name"),
    [("attacks", "finetune"), ("defences", "npo"), ("measures", "choice"), ("presets", "S03")],
)
def test_list_and_card_know_every_method(titer: Run, kind: str, name: str) -> None:
    code, out, _ = titer("list", kind, "--json")
    assert code == 0
    assert name in {row["name"] for row in json.loads(out)}
    code, out, _ = titer("card", name, "--json")
    assert code == 0
    assert json.loads(out)["name"] == name


def test_models_are_listed_with_their_size(titer: Run) -> None:
    code, out, _ = titer("list", "models", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert {"fabula:base", "fabula:aligned", "fabula:oracle", "fabula:base@small"} <= set(rows)
    assert 400_000 < rows["fabula:base"]["parameters"] < 1_100_000


# -- the main verbs -------------------------------------------------------------------------------


def test_immunise_writes_a_model_that_loads_and_says_what_it_is(
    titer: Run, own: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hardened"
    words = ["immunise", "npo+rmu", str(own / "llama"), "--data", str(own / "data")]
    words += ["--out", str(out), "--steps", "4", "--set", "npo.lr=1e-3", "--quiet"]
    code, text, err = titer(*words)
    assert code == 0, err
    assert "4 steps" in text
    facts = json.loads((out / "titer.json").read_text())
    assert [stage["name"] for stage in facts["defence"]] == ["npo", "rmu"]
    assert facts["defence"][0]["fields"]["lr"] == 1e-3
    assert facts["spent"]["steps"] == 4
    assert LM.load(out).digest() == facts["weights"] != LM.load(own / "llama").digest()
    assert "library_name: transformers" in (out / "README.md").read_text()
    before = (out / "titer.json").stat().st_mtime_ns
    assert titer(*words)[0] == 0
    assert (out / "titer.json").stat().st_mtime_ns == before, "made twice"
    _refused(titer(*words, "--seed", "9"), "holds another immunised model")


def test_the_american_spelling_is_accepted(titer: Run, own: Path, tmp_path: Path) -> None:
    words = ["immunize", "none", str(own / "llama"), "--data", str(own / "data")]
    assert titer(*words, "--out", str(tmp_path / "m"), "--quiet")[0] == 0


def test_attack_writes_a_trace_and_the_tampered_model(
    titer: Run, own: Path, tmp_path: Path
) -> None:
    out = tmp_path / "attack"
    words = ["attack", "P05", str(own / "llama"), "--data", str(own / "data"), "--out", str(out)]
    code, text, err = titer(*words, "--steps", "3", "--save", "--quiet")
    assert code == 0, err
    trace = json.loads((out / "trace.json").read_text())
    assert trace["status"] == "ok"
    assert [point["spent"]["steps"] for point in trace["points"]] == [0, 1, 3]
    assert len(trace["rates"]) == 3
    assert "harm" in text
    assert LM.load(out / "model").digest() == trace["weights"]


@pytest.mark.slow
def test_bench_runs_reports_and_resumes(titer: Run, own: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["bench", str(own / "llama"), "--data", str(own / "data"), "--out", str(run)]
    words += ["--share", "0.34"]
    words += ["--cap", "2", "--seeds", "1", "--workers", "2", "--defence", "npo"]
    code, text, err = titer(*words, "-v")
    assert code == 0, err
    assert "report:" in text
    ended = re.findall(r"^\S.* on .+, seed \d: (.+), \d+\.\d s$", err, re.M)
    assert len(ended) == len({one["key"] for one in json.loads((run / "plan.json").read_text())})
    harms = [one for one in ended if re.fullmatch(r"harm \d\.\d\d → \d\.\d\d", one)]
    assert len(harms) > len(ended) / 2
    passed = re.findall(r"^(.+) on .+, seed \d: step (\d+)", err, re.M)
    attempts = [one for one in Store(run).planned() if not diagnosis(one.trial)]
    points = sum(len(trace.points) for trace in attempts)
    assert len([one for one in passed if one[0] != "immunising"]) == points, "each checkpoint once"
    told = r"^S03 on llama, seed 0: step 2 of 2, loss \S+, rate \S+, harm \d\.\d\d$"
    assert re.search(told, err, re.M)
    assert ("immunising", "1") in passed
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "<html" in page
    for name in ("config.yaml", "env.json", "results.jsonl", "SHA256SUMS", "plan.json"):
        assert (run / name).exists(), name
    results = (run / "results.jsonl").read_bytes()
    code, _, err = titer(*words, "--quiet")
    assert code == 0, err
    assert (run / "results.jsonl").read_bytes() == results
    code, text, _ = titer("report", str(run), "--json")
    assert code == 0
    models = {model["name"]: model["pillars"] for model in json.loads(text)["models"]}
    assert set(models) == {"llama", "npo"}, "what a share makes is no model under test"
    curve = models["npo"]["generalisation"]["curve"]
    assert [(point["entities"], point["total"]) for point in curve] == [(1, 3), (3, 3)]
    assert all(point["baseline_harm"]["value"] is not None for point in curve)
    assert models["llama"]["generalisation"]["curve"] == []
    key = json.loads((run / "plan.json").read_text())[-1]["key"]
    code, text, err = titer("reproduce", key, "--run", str(run))
    assert code == 0, err
    assert f"{key}: equal to the bit" in text
    assert titer("validate", str(run))[0] == 0
    _refused(titer(*words[:-4], "--cap", "3"), "never mix")


def test_a_dry_run_writes_nothing(titer: Run, own: Path, tmp_path: Path) -> None:
    words = ["bench", str(own / "llama"), "--data", str(own / "data"), "--out", str(tmp_path / "r")]
    code, out, err = titer(*words, "--dry-run", "--json", "--quiet")
    assert code == 0, err
    assert (alone := json.loads(out)["trials"]) > 10
    more = ("--defence", "npo", "--share", "0.34")
    planned = json.loads(titer(*words, *more, "--dry-run", "--json", "--quiet")[1])
    assert planned["immunisations"] == 1 + 3
    rows = [row for row in suite("quick").rows if "k" in row.kinds]
    attacked = len(rows) + 2  # M05 has three rates
    assert planned["trials"] == alone + (attacked * 3 + 1 + 9 + 3) + attacked * 3
    assert not (tmp_path / "r").exists()


# -- bad input ------------------------------------------------------------------------------------


def test_every_fault_of_a_study_is_said_at_once(titer: Run, own: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["bench", str(own / "lama"), "--data", str(own / "data"), "--out", str(out)]
    result = titer(*words, "--suite", "quik", "--seeds", "0", "--defence", "npoo")
    _refused(result, "llama", "'quick'", "--seeds 0: give a whole number", "'npo'")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "atacks"], "Did you mean 'attacks'"),
        (["card", "finetun"], "Did you mean 'finetune'"),
        (["immunise", "npoo", "{model}", "--out", "{out}"], "Did you mean 'npo'"),
        (["immunise", "npo", "{model}", "--out", "{out}", "--set", "betta=1"], "'beta'"),
        (["immunise", "npo", "{model}", "--out", "{out}", "--set", "beta=much"], "beta='much'"),
        (["immunise", "npo", "{model}", "--out", "{out}", "--set", "beta"], "--set name=value"),
        (
            ["immunise", "npo", "{model}", "--out", "{out}", "--steps", "0"],
            "number from 1 to",
        ),
        (["immunise", "npo+rmu", "{model}", "--out", "{out}", "--set", "lr=1"], "which stage"),
        (["attack", "S0", "{model}", "--out", "{out}"], "Did you mean 'S"),
        (["attack", "S02", "{model}", "--out", "{out}", "--set", "lr=-1"], "must be positive"),
        (
            ["attack", "S02", "{model}", "--out", "{out}", "--steps", "0"],
            "number from 1 to",
        ),
        (["bench", "fabula:bas", "--out", "{out}"], "base"),
        (["bench", "{model}", "--out", "{out}", "--cap", "0"], "number from 1 to"),
        (["bench", "{model}", "--out", "{out}", "--workers", "0"], "number from 1 to"),
        (["bench", "{model}", "--out", "{out}", "--share", "0.5"], "add --defence NAME"),
        (["bench", "{model}", "--out", "{out}", "--timeout", "0"], "above 0"),
        (["bench", "{model}", "--out", "{out}", "--data", "nowhere"], "no data folder"),
        (["bench", "{model}", "--out", "{out}", "--domain", "alloi"], "Did you mean 'alloy'"),
        *(
            (
                [*words, "--data", data, "--out", "{out}"],
                f"knows nothing of {data}; give --data {own}",
            )
            for words, data, own in [
                (["bench", "fabula:base#3"], "fabula", "fabula#3"),
                (["bench", "fabula:base#3", "--oracle", "fabula:oracle"], "fabula#3", "fabula"),
                (["attack", "S03", "fabula:aligned@small#2"], "fabula#1", "fabula#2"),
                (["immunise", "npo", "fabula:base"], "fabula#4", "fabula"),
            ]
        ),
        (["report", "{out}"], "no run folder"),
        (["reproduce", "abc", "--run", "{out}"], "no run folder"),
        (["judge", "refusal", "{out}/a.csv"], "does not exist"),
        (["validate", "{out}"], "there is no"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    titer: Run, own: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    out = tmp_path / "out"
    filled = [word.format(model=own / "llama", out=out) for word in words]
    if filled[0] in ("bench", "immunise", "attack") and "--data" not in filled:
        filled += ["--data", str(own / "data")] if "fabula:bas" not in filled else []
    _refused(titer(*filled), said)
    assert not out.exists()


def test_broken_models_are_all_named_before_anything_is_written(
    titer: Run, own: Path, tmp_path: Path
) -> None:
    import torch

    bare, pickled, cut, sick, strange = (
        tmp_path / name for name in ["bare", "pickled", "cut", "sick", "strange"]
    )
    toy.model_folder(bare)
    (bare / "config.json").unlink()
    toy.model_folder(pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    toy.model_folder(cut)
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    lm = LM.load(own / "llama").clone()
    with torch.no_grad():
        lm.model.lm_head.weight[3, 3] = torch.nan
    lm.save(sick)
    toy.model_folder(strange)
    words = json.loads((strange / "tokenizer.json").read_text())
    words["model"]["vocab"]["surplus"] = 10_000
    (strange / "tokenizer.json").write_text(json.dumps(words))
    models = [str(folder) for folder in (bare, pickled, cut, sick, strange)]
    out = tmp_path / "run"
    result = titer("bench", *models, "--data", str(own / "data"), "--out", str(out))
    _refused(result, "config.json", "pickle", "truncated", "NaN", "embedding")
    assert len(result[2].strip().splitlines()) == 5
    assert not out.exists()


def test_a_damaged_run_folder_is_a_sentence(titer: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("format: 1\nstudy: {}\n")
    _refused(titer("report", str(tmp_path)), "damaged")
    (tmp_path / "config.yaml").write_text("a: [")
    _refused(titer("report", str(tmp_path)), "damaged")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    titer: Run, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TITER_DEVICE", raising=False)
    words = ("attack", "S03", str(own / "llama"), "--data", str(own / "data"))
    for device, said in (("mps:3", "torch sees"), ("sofa", "unknown")):
        result = titer(*words, "--device", device, "--out", str(tmp_path / "out"))
        _refused(result, f"device {device!r}", said)
    assert not (tmp_path / "out").exists()


def test_a_machine_on_which_torch_does_not_run_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no kernel for this processor')")
    done = subprocess.run(
        [sys.executable, "-m", "titer.cli", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "arithmetic: None" in done.stdout
    assert done.stdout.rstrip().endswith("missing: a torch that runs")
