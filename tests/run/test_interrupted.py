"""A study that is killed again and again, at moments drawn at random, ends with the same results.

``python -m benchmarks.interrupted`` does it to a real organism, twenty times.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import interrupted
from tests import toy
from titer.verify.findings import findings

pytestmark = pytest.mark.exact

KILLS = 3


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_results(tmp_path: Path) -> None:
    toy.model_folder(tmp_path / "llama")
    toy.data_folder(tmp_path / "data")
    bench = [sys.executable, "-m", "titer.cli", "bench", str(tmp_path / "llama")]
    bench += ["--data", str(tmp_path / "data"), "--suite", "quick", "--defence", "npo"]
    bench += ["--cap", "3", "--seeds", "1", "--workers", "1", "--quiet"]
    figures, wrong = interrupted.measure(bench, tmp_path, kills=KILLS, seed=0)
    assert not wrong
    assert next(one.median for one in figures if one.what == "kills") == KILLS
    assert not [one for one in findings(tmp_path / "cut") if one.kind == "fault"]


@pytest.mark.slow
def test_three_that_fill_one_folder_and_are_killed_or_put_to_sleep_end_with_the_same(
    tmp_path: Path,
) -> None:
    toy.model_folder(tmp_path / "llama")
    toy.data_folder(tmp_path / "data")
    bench = [sys.executable, "-m", "titer.cli", "bench", str(tmp_path / "llama")]
    bench += [
        "--data",
        str(tmp_path / "data"),
        "--suite",
        "quick",
        "--defence",
        "npo",
        "--cap",
        "3",
    ]
    bench += ["--seeds", "1", "--executor", "inline", "--quiet"]
    _, wrong = interrupted.measure(bench, tmp_path, kills=KILLS, seed=1, processes=3)
    assert not wrong
    assert not [one for one in findings(tmp_path / "cut") if one.kind == "fault"]
    assert not list((tmp_path / "cut").glob(".claims"))


def test_what_differs_is_told(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name / "report").mkdir(parents=True)
        verdict = {"reproduce": {"command": name}, "models": [{"cost": {"seconds": len(name)}}]}
        (tmp_path / name / "report" / "verdict.json").write_text(json.dumps(verdict))
        (tmp_path / name / "results.jsonl").write_text("{}")
    assert interrupted.differences(tmp_path / "whole", tmp_path / "cut") == []
    (tmp_path / "cut" / "results.jsonl").write_text("{ }")
    (tmp_path / "cut" / ".results.jsonl.x").write_text("")
    (tmp_path / "whole" / "plan.json").write_text("{}")
    assert interrupted.differences(tmp_path / "whole", tmp_path / "cut") == [
        "differs: results.jsonl",
        "only in whole: plan.json",
        "left behind: .results.jsonl.x",
    ]
