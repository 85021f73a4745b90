"""The race from the command line: plain lines without a terminal, a verdict, and a picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.toy import data_folder, model_folder
from titer.cli.app import app
from titer.cli.race import curves, line, sparkline
from titer.race import Look


def _look(**more: object) -> Look:
    known = {"step": 3, "side": "attacker", "harm": 0.5, "current": 1.0, "utility": 1.0}
    return Look(**{**known, "spoilt": 0.0, **more})  # type: ignore[arg-type]


def test_bars_by_hand() -> None:
    assert sparkline([0.0, 0.5, 1.0, None], 1.0) == "▁▅█ "
    assert sparkline([0.0, 2.0], None) == "▁█"
    assert sparkline([], None) == ""
    assert sparkline([0.0], None) == "▁"


def test_a_look_in_words_and_as_curves() -> None:
    assert line(_look()).startswith("step    3  attacker moved")
    assert line(_look(step=0, side="defender")).startswith("step    0  the start")
    assert "new adversary" not in line(_look())
    names = {name: (bars, now) for name, bars, now in curves([_look(fresh=0.25), _look()])}
    assert names["harm, a new adversary"] == ("▃ ", "0.25")
    assert names["harm, its adversary"] == ("██", "1.00")


@pytest.mark.slow
def test_a_race_without_a_terminal(tmp_path: Path) -> None:
    out = tmp_path / "race"
    words = ["race", str(model_folder(tmp_path / "m")), "--data", str(data_folder(tmp_path / "d"))]
    words += ["--blocks", "2", "--block", "2", "--exam", "2", "--rank", "2", "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--set", "width=8"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "wins: " in done.stdout
    said = done.stderr.splitlines()
    assert sum(text.startswith("step ") for text in said) == 5
    assert said[0].startswith("The adversary is a hypernetwork")
    assert "the exam" in done.stderr
    found = json.loads((out / "race.json").read_text())
    assert len(found["looks"]) == 5
    assert found["rules"]["edit_rank"] == 2
    drawing = ElementTree.parse(out / "race.svg").getroot()
    assert drawing.tag.endswith("svg")
    paths = [e for e in drawing.iter() if e.tag.endswith("path")]
    assert len(paths) >= 6
    again = CliRunner().invoke(app, [*words, "--set", "width=8", "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["looks"] == found["looks"]


def test_a_dry_run_says_what_it_would_do(tmp_path: Path) -> None:
    out = tmp_path / "race"
    words = ["race", str(model_folder(tmp_path / "m")), "--data", str(data_folder(tmp_path / "d"))]
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--dry-run"], catch_exceptions=False)
    assert done.stdout == "would take 8 times 20 and 10 steps, then 4 times 100.\n"
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "said"), [(["--set", "width=x"], "width"), (["--lr", "-1"], "above 0")]
)
def test_wrong_knobs(tmp_path: Path, more: list[str], said: str) -> None:
    words = ["race", str(model_folder(tmp_path / "m")), "--data", str(data_folder(tmp_path / "d"))]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), *more])
    assert done.exit_code != 0
    assert said in str(done.exception)
