"""lm-eval's results stand beside a study's utility and change nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_verdict import made
from tests.lm_eval_file import write

from titer.core.errors import BadInput
from titer.report import lm_eval, tables
from titer.report._beside import beside as grids

MODELS = [
    {"name": "base", "role": "undefended"},
    {"name": "npo", "role": "defended"},
    {"name": "rmu", "role": "defended"},
]
NAMES = [model["name"] for model in MODELS]


def _shown(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["model"], one["metric"]): one for one in lm_eval.beside(root, MODELS)}


def test_metrics_come_with_their_errors(tmp_path: Path) -> None:
    content = lm_eval.read(write(tmp_path / "results.json"))
    acc, norm = content["results"]
    assert (acc["metric"], acc["value"], acc["stderr"], acc["n"]) == ("acc", 0.85, 0.0464, 60)
    assert (norm["metric"], norm["value"], norm["stderr"]) == ("acc_norm", 0.9, None)
    assert content["lm_eval"] == "0.4.13"
    assert "/home/me" not in json.dumps(content), "where it was measured is nobody's business"


def test_defended_and_undefended_stand_side_by_side(tmp_path: Path) -> None:
    before = write(tmp_path / "base.json")
    after = write(tmp_path / "npo.json", **{"acc,none": 0.75, "acc_stderr,none": 0.056})
    lm_eval.keep(tmp_path, NAMES, {"base": before, "npo": after})
    found = _shown(tmp_path)
    assert found["base", "acc"]["change"] is None
    change = found["npo", "acc"]["change"]
    assert change["value"] == pytest.approx(-0.10)
    half = 1.959964 * math.hypot(0.056, 0.0464)
    assert [change["low"], change["high"]] == pytest.approx([-0.10 - half, -0.10 + half])
    assert found["npo", "acc_norm"]["change"]["low"] is None, "no error, no interval"
    assert not [key for key in found if key[0] == "rmu"]


def test_all_right_is_no_certainty(tmp_path: Path) -> None:
    right = {"acc,none": 1.0, "acc_stderr,none": 0.0}
    files = {name: write(tmp_path / f"{name}.json", **right) for name in ("base", "npo")}
    lm_eval.keep(tmp_path, NAMES, files)
    found = _shown(tmp_path)["npo", "acc"]
    low = 60 / (60 + 1.959964**2)  # Wilson's lower end for 60 of 60
    assert [found["score"]["low"], found["score"]["high"]] == pytest.approx([low, 1.0])
    assert [found["change"]["low"], found["change"]["high"]] == pytest.approx([low - 1, 1 - low])


@pytest.mark.parametrize(
    "changed",
    [
        {"n-shot": {"fabula_far": 5}},
        {"versions": {"fabula_far": 2.0}},
        {"n-samples": {"fabula_far": {"original": 60, "effective": 30}}},
        {"chat_template_sha": "abc"},
    ],
)
def test_what_was_not_asked_alike_is_not_compared(tmp_path: Path, changed: dict[str, Any]) -> None:
    files = {"base": write(tmp_path / "b.json"), "npo": write(tmp_path / "n.json", **changed)}
    lm_eval.keep(tmp_path, NAMES, files)
    change = _shown(tmp_path)["npo", "acc"]["change"]
    assert change["value"] is None
    assert "not compared" in change["note"]


def test_it_is_shown_and_enters_no_number_of_ours(tmp_path: Path) -> None:
    lm_eval.keep(tmp_path, NAMES, {"npo": write(tmp_path / "npo.json")})
    bare = {**made(models=3), "lm_eval": []}
    verdict = {**bare, "lm_eval": lm_eval.beside(tmp_path, MODELS)}
    assert grids(bare) == []
    [grid] = grids(verdict)
    assert [head for head, _ in grid.heads] == ["fabula_far acc", "fabula_far acc_norm"]
    cells = {model["name"]: [one.value for one in row] for model, row in grid.rows}
    assert cells["npo"] == ["0.85", "0.90"]
    assert cells["base"] == ["—", "—"]
    told = tables.plain(verdict, 200)
    assert "lm-eval: npo: fabula_far acc: 0.85 [0.76, 0.94]." in told
    without = [line for line in told.splitlines() if not line.startswith("lm-eval:")]
    assert without == tables.plain(bare, 200).splitlines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "no results file"),
        ('{"results": {"a": {"acc,none": 1}}}', "no results file"),
        ('{"results": {}, "versions": {}, "n-shot": {}}', "no metric"),
        ('{"results": {"a": {"acc,none": NaN}}, "versions": {}, "n-shot": {}}', "no metric"),
        ('{"results": {"a": {"acc,none": true}}, "versions": {}, "n-shot": {}}', "no metric"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        lm_eval.read(tmp_path / "x.json")


def test_all_faults_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json")
    given = {"npo": good, "nppo": good, "base": tmp_path / "missing.json"}
    with pytest.raises(BadInput) as caught:
        lm_eval.keep(tmp_path / "run", NAMES, given)
    assert len(caught.value.faults) == 2
    assert "Did you mean 'npo'" in str(caught.value)
    assert not (tmp_path / "run").exists()
