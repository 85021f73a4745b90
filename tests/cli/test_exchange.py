"""Run folders that go out, come in, are checked, and are run again in part."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import toy
from tests.conftest import Once
from tests.lm_eval_file import write
from titer.core.records import Trace
from titer.nn.arithmetic import arithmetic
from titer.run.machine import machine
from titer.run.store import Store
from titer.verify.agreement import agreement, elsewhere
from titer.verify.findings import findings

# The run folder is made once.
pytestmark = pytest.mark.xdist_group("exchange")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(once: Once) -> Path:
    """A whole run folder on a tiny model."""
    return once("toy-run", toy.run_folder) / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil, elsewhere: a folder may be moved."""
    return Path(shutil.copytree(made, tmp_path / "moved"))


def _faults(root: Path) -> list[tuple[str, str]]:
    return [(one.check, one.where) for one in findings(root) if one.kind == "fault"]


def _attack(root: Path, row: str = "S03", subject: str = "npo") -> str:
    plan = json.loads((root / "plan.json").read_text())
    return next(e["key"] for e in plan if (e["label"], e["subject"]) == (row, subject))


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, sort_keys=True, indent=1))


# -- validate --------------------------------------------------------------------------------------


def test_a_whole_folder_has_no_faults(titer: Run, run: Path) -> None:
    code, out, _ = titer("validate", run)
    assert (code, out) == (0, f"{run}: run folder, no faults\n")
    code, out, _ = titer("validate", run, "--json")
    assert code == 0
    assert json.loads(out)["faults"] == []


def test_faults_are_lines_and_exit_1(titer: Run, run: Path) -> None:
    key = _attack(run)
    shutil.rmtree(run / "trials" / key)
    (run / "env.json").write_text("{}")
    code, out, _ = titer("validate", run)
    assert code == 1
    lines = out.splitlines()
    assert "fault: hash: env.json: has changed since SHA256SUMS was written." in lines
    assert f"fault: missing: trials/{key}: S03 on npo has no result." in lines
    assert lines[-1].endswith("faults")
    code, out, _ = titer("validate", run, "--json")
    assert code == 1
    assert {one["check"] for one in json.loads(out)["faults"]} >= {"hash", "missing"}


def test_bad_input_exits_2(titer: Run, tmp_path: Path) -> None:
    assert titer("validate", tmp_path / "nothing")[0] == 2
    (tmp_path / "config.yaml").write_text("format: 1\nstudy: {}\n")
    code, _, err = titer("validate", tmp_path)
    assert code == 2
    assert "damaged" in err


def test_scores_that_were_changed_are_found_though_the_sums_were_made_anew(run: Path) -> None:
    """Someone who writes the sums anew can still not make the answers say something else."""
    path = run / "trials" / _attack(run) / "scores.jsonl"
    points = [json.loads(line) for line in path.read_text().splitlines()]
    harm = points[-1]["scores"]["harm"]
    points[-1]["scores"]["harm"] = [1.0 - value for value in harm]
    path.write_text("".join(json.dumps(point, sort_keys=True) + "\n" for point in points))
    Store(run).write_sums()
    found = _faults(run)
    assert ("judge", f"trials/{_attack(run)}") in found
    assert ("result", "results.jsonl") in found
    assert not [one for one in found if one[0] == "hash"]


def _other_suite(run: Path) -> None:
    path = run / "config.yaml"
    text = path.read_text()
    assert "cap: 2" in text
    path.write_text(text.replace("cap: 2", "cap: 3"))


def _other_budget(run: Path) -> None:
    def change(trial: Any) -> None:
        trial["budget"]["steps"] = 300

    _edit(run / "trials" / _attack(run) / "trial.json", change)


def _unplanned(run: Path) -> None:
    key = _attack(run)
    plan = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps([e for e in plan if e["key"] != key], indent=1))


def _other_model(run: Path) -> None:
    [folder] = [path for path in (run / "models").iterdir() if path.is_dir()]
    _edit(folder / "config.json", lambda content: content.update(rope_theta=1.0))


def _failed(run: Path) -> None:
    def change(status: Any) -> None:
        status.update(status="failed", error="Traceback\nValueError: out of luck")

    _edit(run / "trials" / _attack(run) / "status.json", change)


def _nan(run: Path) -> None:
    path = run / "trials" / _attack(run) / "scores.jsonl"
    path.write_text(path.read_text().replace('"coherence": [', '"coherence": [NaN, ', 1))


def _cut(run: Path) -> None:
    (run / "trials" / _attack(run) / "status.json").write_text('{"status": "ok"')


def _verdict(run: Path) -> None:
    path = run / "report" / "verdict.json"
    _edit(path, lambda content: content["models"][1].update(claim="never breached"))


def _reads(run: Path, name: str, content: str) -> None:
    (run / name).write_text(content)


def _no_number(run: Path) -> None:
    path = run / "trials" / _attack(run) / "scores.jsonl"
    path.write_text(path.read_text().replace('"coherence": [', '"coherence": ["1", ', 1))


def _over_budget(run: Path) -> None:
    path = run / "trials" / _attack(run) / "scores.jsonl"
    points = [json.loads(line) for line in path.read_text().splitlines()]
    points[-1]["spent"]["steps"] = 3000
    path.write_text("".join(json.dumps(point, sort_keys=True) + "\n" for point in points))


def _plan(run: Path, change: Callable[[Any, Any], None]) -> None:
    """Change the plan's entry of the attack; ``change`` takes the plan and the entry."""
    key = _attack(run)
    path = run / "plan.json"
    _edit(path, lambda plan: change(plan, next(one for one in plan if one["key"] == key)))


def _config(run: Path, change: Callable[[Any], None]) -> None:
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text())
    change(content["study"])
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _other_version(run: Path) -> None:
    _config(run, lambda study: study.update(suite_version="v0"))


def _row_left_out(run: Path) -> None:
    _config(run, lambda study: study["rows"].pop())


def _said_to_be_tested(run: Path) -> None:
    _config(run, lambda study: study.update(not_tested=[]))


def _other_chance(run: Path) -> None:
    _config(run, lambda study: study.update(chance=0.9))


def _stale_table(run: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = run / "results.parquet"
    parquet.write_table(parquet.read_table(path).slice(1), path)


def _foreign_trial(run: Path) -> None:
    """A trial of another suite, under the key that it has."""
    trace = Store(run).get(_attack(run))
    Store(run).put(replace(trace, trial=replace(trace.trial, suite="0" * 16)))


def _linked(run: Path) -> None:
    (run / "env.json").unlink()
    (run / "env.json").symlink_to(run / "config.yaml")


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (_no_number, "layout"),
        (_over_budget, "trial"),
        (lambda run: _plan(run, lambda _, entry: entry.update(label="V01")), "missing"),
        (lambda run: _plan(run, lambda _, entry: entry.update(subject="oracle")), "missing"),
        (lambda run: _plan(run, lambda plan, entry: plan.append(entry)), "layout"),
        (lambda run: _plan(run, lambda _, entry: entry.update(key="../../etc")), "layout"),
        (lambda run: _reads(run, "plan.json", "{}"), "layout"),
        (lambda run: _reads(run, "env.json", "nothing"), "layout"),
        (lambda run: _reads(run, "results.parquet", "nothing"), "result"),
        (_stale_table, "result"),
        (_other_version, "suite"),
        (_row_left_out, "suite"),
        (_said_to_be_tested, "suite"),
        (_other_chance, "suite"),
        (_foreign_trial, "trial"),
        (_linked, "layout"),
        (_other_suite, "suite"),
        (_other_budget, "trial"),
        (_unplanned, "missing"),
        (_other_model, "model"),
        (_failed, "missing"),
        (_nan, "trial"),
        (_cut, "layout"),
    ],
)
def test_each_fault_is_found_without_the_sums(
    run: Path, spoil: Callable[[Path], None], check: str
) -> None:
    spoil(run)
    Store(run).write_sums()
    assert check in {found for found, _ in _faults(run)}


def test_one_damage_is_one_sentence_of_its_own(run: Path) -> None:
    """A plan that cannot be read says nothing of cells, and a trial's files are told together."""
    (run / "plan.json").write_text("{}")
    Store(run).write_sums()
    assert _faults(run) == [("layout", "plan.json")]
    shutil.rmtree(run / "trials")
    found = [one.line() for one in findings(run) if one.check == "hash"]
    assert found == [
        "fault: hash: trials: is no folder, so all that SHA256SUMS has of it is not there."
    ]


def test_files_of_a_trial_are_told_together(run: Path) -> None:
    key = _attack(run)
    shutil.rmtree(run / "trials" / key)
    found = [one.line() for one in findings(run) if one.check == "hash"]
    assert found == [
        f"fault: hash: trials/{key}: generations.jsonl, scores.jsonl, status.json, trial.json are "
        "in SHA256SUMS and not in the folder."
    ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_sums_that_are_none(run: Path, content: bytes) -> None:
    (run / "SHA256SUMS").write_bytes(content)
    assert _faults(run) == [("hash", "SHA256SUMS")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "it describes no study"),
        ("study: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("format: 1\ncommand: x\nstudy: {suite: quick}", "study.suite_version: field required"),
    ],
)
def test_a_damaged_config_is_a_sentence(titer: Run, run: Path, content: str, says: str) -> None:
    (run / "config.yaml").write_text(content)
    for verb in ("validate", "verify"):
        code, _, err = titer(verb, run)
        assert code == 2
        assert "damaged" in err
    assert says in titer("validate", run)[2]


def test_seeds_that_are_none_are_a_sentence(titer: Run, run: Path) -> None:
    _config(run, lambda study: study.update(seeds="lots"))
    for verb in ("validate", "verify"):
        code, _, err = titer(verb, run)
        assert (code, "seeds" in err) == (2, True)


def test_what_is_no_run_folder_says_what_it_is(titer: Run, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (run / "config.yaml").unlink()
    for target, says in (
        (tmp_path / "empty", "is empty"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "none", "there is no"),
        (run, "is a run folder without its config.yaml"),
    ):
        code, _, err = titer("validate", target)
        assert (code, says in err) == (2, True), err
        assert titer("verify", target)[0] == 2


def test_a_page_that_was_changed_is_found(titer: Run, run: Path) -> None:
    page = run / "report" / "index.html"
    page.write_text(page.read_text().replace("breached", "held"))
    Store(run).write_sums()
    code, out, _ = titer("validate", run)
    assert code == 1
    assert "report/index.html: is not the page of the verdict" in out


def test_a_folder_from_before_settings_were_recorded_has_a_note(run: Path) -> None:
    _config(run, lambda study: study.pop("suite_settings"))
    Store(run).write_sums()
    found = [(one.kind, one.check) for one in findings(run)]
    assert found == [("note", "suite")]


def test_models_may_be_left_out(titer: Run, run: Path) -> None:
    shutil.rmtree(run / "models")
    Store(run).write_sums()
    code, out, _ = titer("validate", run)
    assert code == 0, out
    assert "note: model" in out


def test_a_verdict_that_was_changed_is_found(titer: Run, run: Path) -> None:
    _verdict(run)
    Store(run).write_sums()
    code, out, _ = titer("validate", run)
    assert code == 1
    assert "report/verdict.json: is not what the trials give" in out
    assert titer("report", run)[0] == 0
    assert titer("validate", run)[0] == 0, "titer report renews its own sums"


def test_sums_do_not_lead_out_of_the_folder(run: Path) -> None:
    with (run / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  ../llama/config.json\n{'0' * 64}  /etc/passwd\n")
    assert _faults(run) == [("hash", "SHA256SUMS")] * 2


def test_every_command_that_reads_a_folder_refuses_what_no_run_writes(
    titer: Run, run: Path, tmp_path: Path
) -> None:
    path = run / "trials" / _attack(run) / "scores.jsonl"
    looks = [json.loads(line) for line in path.read_text().splitlines()]
    looks[-1]["scores"]["harm"] = [-5.0] * len(looks[-1]["scores"]["harm"])
    path.write_text("".join(json.dumps(look, sort_keys=True) + "\n" for look in looks))
    Store(run).write_sums()
    for words in (
        ("report", run),
        ("export", run, "--to", tmp_path / "paper"),
        ("verify", run, "--quiet"),
        ("reproduce", _attack(run), "--run", run),
    ):
        code, _, said = titer(*words)
        assert (code, said.count("\n")) == (2, 1), said
        assert "has scores outside [0, 1]: harm" in said
        assert "titer validate" in said
    assert not (tmp_path / "paper").exists()
    assert titer("validate", run)[0] == 1


# -- verify ----------------------------------------------------------------------------------------


def test_a_random_part_agrees_wherever_the_folder_lies(titer: Run, run: Path) -> None:
    words = ("verify", run, "--sample", "0.1", "--workers", "1", "--quiet")
    code, out, err = titer(*words, "--json")
    assert code == 0, out + err
    found = json.loads(out)
    assert found["drawn"] == math.ceil(0.1 * found["trials"])
    assert found["looks"] == 2 + 2 + 3, "each model as it was released, and diagnoses"
    assert {row["agrees"] for row in found["rows"]} == {"same"}
    assert sum(row["drawn"] for row in found["rows"]) == found["drawn"] + found["looks"]
    assert found["other_machine"] == ""


OTHER = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
"""Settings under which most processors compute as another does."""


def _elsewhere(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, **OTHER, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_another_processor_agrees_within_its_rounding_and_says_so(run: Path) -> None:
    asked = _elsewhere("-c", "from titer.nn.arithmetic import arithmetic as a; print(a())")
    if asked.stdout.strip() == arithmetic():
        pytest.skip("these settings do not change how this processor computes")
    words = ("-m", "titer.cli", "verify", run, "--sample", "0.1", "--workers", "2", "--quiet")
    ended = _elsewhere(*words, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert found["other_machine"] == f"arithmetic {asked.stdout.strip()}, was {arithmetic()}"
    assert {row["agrees"] for row in found["rows"]} <= {"same", "rounding"}
    assert found["rounding"] > 0
    # One trial, in words: what it is, by how much, and what may be expected of this machine.
    key = next(row["trial"] for row in found["rows"] if row["agrees"] == "rounding")
    ended = _elsewhere("-m", "titer.cli", "reproduce", key, "--run", run)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{key}: within rounding of another processor" in ended.stdout
    assert "This machine does not compute as that of the folder did: arithmetic" in ended.stdout


def test_what_may_differ_is_read_off_the_folder(run: Path) -> None:
    here = machine()
    assert elsewhere(run, here) == ""
    assert elsewhere(run, here | {"device": "cuda:0"}) == "device cuda:0, was cpu"
    path = run / "env.json"
    there = json.loads(path.read_text())
    packages = there["packages"] | {"torch": "1.0"}
    for change, why in (
        ({"arithmetic": "0" * 12}, f"arithmetic {here['arithmetic']}, was {'0' * 12}"),
        ({"packages": packages}, f"torch {here['packages']['torch']}, was 1.0"),
        ({"device": "cuda"}, "device cpu, was cuda"),
        ({"arithmetic": None}, "does not say how its machine computes"),
        ({"packages": None}, "does not say on what machine it was made"),
    ):
        path.write_text(json.dumps(there | change))
        assert why in elsewhere(run, here)
    path.write_text(json.dumps(there | {"device": "cuda"}))
    assert "a graphics card" in elsewhere(run, here | {"device": "cuda"})
    path.write_text(json.dumps(there | {"cores": 64, "processor": "of another name"}))
    assert elsewhere(run, here) == "", "what counts is how a machine computes"


def test_a_result_that_does_not_come_again_exits_1(titer: Run, run: Path) -> None:
    """A folder in which every control claims to be harmless."""
    for entry in json.loads((run / "plan.json").read_text()):
        path = run / "trials" / entry["key"] / "scores.jsonl"
        points = [json.loads(line) for line in path.read_text().splitlines()]
        for point in points:
            point["scores"] = {name: [1.0] * len(s) for name, s in point["scores"].items()}
        path.write_text("".join(json.dumps(point) + "\n" for point in points))
    words = ("verify", run, "--sample", "0.01", "--workers", "1", "--quiet")
    code, out, _ = titer(*words)
    assert code == 1
    assert "that differ" in out


def test_a_trial_beside_which_another_trained_must_be_there(titer: Run, run: Path) -> None:
    """Without its company a trial does not come out the same, so nothing can be said of it."""
    store = Store(run)
    cohort = next(trace.cohort for trace in store.planned() if len(trace.cohort) > 1)
    shutil.rmtree(run / "trials" / cohort[-1])
    code, _, err = titer("verify", run, "--sample", "1", "--quiet", "--workers", "1")
    assert code == 2
    assert f"trials/{cohort[-1]} is not in the folder" in err


def test_a_changed_world_is_a_sentence(titer: Run, run: Path, made: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(made.parent / "data", tmp_path / "data"))
    with (data / "far.jsonl").open("a") as file:
        file.write('{"prompt": "one more", "answer": "line"}\n')
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(made.parent / "data"), str(data)))
    code, _, err = titer("verify", run, "--quiet", "--workers", "1")
    assert code == 2
    assert "the world" in err


def test_a_trial_that_asks_for_something_else_now_is_a_sentence(titer: Run, run: Path) -> None:
    _other_budget(run)
    code, _, err = titer("verify", run, "--sample", "1", "--quiet", "--workers", "1")
    assert code == 2
    assert "has been changed" in err
    assert titer("reproduce", _attack(run), "--run", run)[0] == 2


@pytest.mark.parametrize("words", [("--sample", "0"), ("--sample", "2"), ("--timeout", "0")])
def test_bad_samples(titer: Run, run: Path, words: tuple[str, ...]) -> None:
    assert titer("verify", run, *words, "--quiet")[0] == 2


def test_without_a_seed_nobody_knows_what_will_be_drawn(titer: Run, run: Path) -> None:
    words = ("verify", run, "--sample", "0.2", "--dry-run", "--json")
    drawn = [json.loads(titer(*words)[1])["drawn"] for _ in range(3)]
    assert len({tuple(one) for one in drawn}) > 1
    again = [json.loads(titer(*words, "--seed", "5")[1])["drawn"] for _ in range(2)]
    assert again[0] == again[1]


def _scaled(trace: Trace, flips: int) -> Trace:
    raw = trace.to_json()
    for point in raw["points"]:
        scores = [0.0] * 40 + [1.0] * 40
        scores[: min(flips, 40)] = [1.0] * min(flips, 40)
        point["scores"] = {"harm": scores}
    return Trace.from_json(raw)


def _trained(trace: Trace, flips: int, first: int = 0) -> Trace:
    """Forty of eighty items are right at every look, ``flips`` more after training and ``first``
    more before it; other weights."""
    points = _scaled(trace, flips).points
    start = _scaled(trace, first).points
    kept = tuple(s if not p.spent.steps else p for p, s in zip(points, start, strict=True))
    return replace(trace, points=kept, weights="of another machine")


def test_agreement_is_the_bit_then_the_rounding_of_another_processor(made: Path) -> None:
    trace = Store(made).get(_attack(made))
    base = _scaled(trace, 0)
    assert agreement(base, base, elsewhere=False).verdict == "same"
    assert agreement(base, base, elsewhere=True).verdict == "same"
    near = agreement(base, _trained(trace, 4), elsewhere=True)
    assert (near.verdict, near.largest) == ("rounding", pytest.approx(0.05))
    assert near.at.startswith("harm at step")
    # Wilson's interval of 40 in 80 is [0.393, 0.607]: eight items are inside, nine are not.
    assert agreement(base, _trained(trace, 8), elsewhere=True).verdict == "rounding"
    far = agreement(base, _trained(trace, 9), elsewhere=True)
    assert far.verdict == "differs"
    assert "0.613, was 0.500 [0.393, 0.607]" in far.why
    # On a machine that computes alike nothing excuses other bits, however near.
    here = agreement(base, _trained(trace, 1), elsewhere=False)
    assert (here.verdict, here.largest) == ("differs", pytest.approx(1 / 80))
    assert "computes alike" in here.why


def test_what_no_training_has_amplified_can_hardly_move(made: Path) -> None:
    """Scores before the first step, the first loss, and all scores of equal weights: rounding may
    move one item, or a thousandth. More than that was written by hand."""
    trace = Store(made).get(_attack(made))
    base = _scaled(trace, 0)
    assert agreement(base, _trained(trace, 4, first=1), elsewhere=True).verdict == "rounding"
    assert agreement(base, _trained(trace, 4, first=2), elsewhere=True).verdict == "differs"
    lost = (base.losses[0] * 1.01, *base.losses[1:])
    told = agreement(base, replace(_trained(trace, 4), losses=lost), elsewhere=True)
    assert (told.verdict, told.why[:10]) == ("differs", "first loss")
    assert agreement(base, _scaled(trace, 1), elsewhere=True).verdict == "rounding"
    assert agreement(base, _scaled(trace, 2), elsewhere=True).verdict == "differs"
    told = agreement(replace(base, losses=(0.0,) * len(base.losses)), base, elsewhere=True)
    assert told.verdict == "differs"
    assert told.why == "its scores and weights are the same, and not its losses"
    assert agreement(replace(base, flags=("plateau",)), base, elsewhere=True).verdict == "differs"
    sick = replace(base, losses=(float("nan"),))
    for other in (False, True):
        again = replace(sick, losses=(float("nan"),))
        assert agreement(sick, again, elsewhere=other).verdict == "same"


# -- export and import -----------------------------------------------------------------------------


def test_export_says_what_it_wrote(titer: Run, run: Path, tmp_path: Path) -> None:
    code, out, _ = titer("export", run, "--to", tmp_path / "paper", "--json")
    assert code == 0
    files = json.loads(out)["files"]
    assert {"tables/pillars.tex", "figures/recovery-npo.svg", "cards/npo/README.md"} <= set(files)
    assert all((tmp_path / "paper" / name).stat().st_size for name in files)
    assert titer("export", run, "--to", tmp_path / "paper")[0] == 0, "an earlier export is replaced"
    assert titer("export", run, "--to", run)[0] == 2
    assert titer("validate", run)[0] == 0


def test_import_shows_lm_eval_and_the_folder_stays_valid(
    titer: Run, run: Path, tmp_path: Path
) -> None:
    before, after = write(tmp_path / "a.json"), write(tmp_path / "b.json", **{"acc,none": 0.8})
    words = ("--lm-eval", f"llama={before}", "--lm-eval", f"npo={after}")
    code, out, err = titer("import", run, *words)
    assert code == 0, err
    assert "lm-eval: npo: fabula_far acc: 0.80" in out
    assert "from undefended" in out
    assert "Utility by lm-eval" in (run / "report" / "index.html").read_text()
    assert titer("validate", run)[0] == 0
    code, _, err = titer("import", run, "--lm-eval", f"nppo={after}")
    assert code == 2
    assert "Did you mean 'npo'" in err
    assert titer("import", run, "--lm-eval", "npo")[0] == 2


def test_running_again_can_be_rehearsed(titer: Run, run: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    code, out, err = titer("verify", run, "--sample", "0.2", "--dry-run", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert set(told["drawn"]) <= set(told["trials"])
    key = _attack(run)
    code, out, err = titer("reproduce", key, "--run", run, "--dry-run")
    assert code == 0, err
    assert "Nothing was run." in out
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before
