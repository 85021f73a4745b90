"""One file more is one check more: asked, run, doubted, and shown everywhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_verdict import sample, verdict

import titer.checks
from titer.checks.listing import listed
from titer.report.html import render
from titer.report.tables import plain

DRAWS = 20
CHECK = '''
"""S99: a doubt about every attack on the model called npo."""

from titer.checks.case import Case, Check, Found, suspect
from titer.checks.wanted import Ground, Wanted

CHECK = Check(
    id="S99",
    asks="Is the moon full?",
    measures="phase of the moon",
    threshold="more than a half",
    scope="all",
)


def trials(ground: Ground):
    yield Wanted(row="by moonlight", attack=ground.varied(warmup=0.2), steps=ground.steps)


def read(case: Case) -> Found:
    bad = case.subject.name == "npo"
    return suspect(bad, 0.75 if bad else 0.25, "full-moon" if bad else "")
'''


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "s99_moon.py").write_text(CHECK)
    monkeypatch.setattr(titer.checks, "__path__", [*titer.checks.__path__, str(tmp_path)])
    yield
    sys.modules.pop("titer.checks.s99_moon", None)


def test_each_file_is_the_check_of_its_name() -> None:
    folder = Path(titer.checks.__path__[0])
    names = sorted(path.stem for path in folder.glob("s[0-9]*.py"))
    assert [one.check.id for one in listed()] == [f"S{int(name[1:3])}" for name in names]
    assert [one.check.id for one in listed() if one.trials] == ["S4", "S7", "S8", "S9", "S17"]
    assert [one.check.id for one in listed() if one.settle] == ["S14"]


@pytest.mark.usefixtures("another")
def test_a_check_in_another_folder_is_seen_everywhere() -> None:
    assert listed()[-1].check.id == "S99"
    found = verdict(*sample(), draws=DRAWS)
    models = {entry["name"]: entry for entry in found.to_json()["models"]}
    assert models["npo"]["checks"][-1] == {
        "id": "S99",
        "flag": "suspect",
        "statistic": 0.75,
        "reason": "full-moon",
        "question": "Is the moon full?",
        "measures": "phase of the moon",
        "threshold": "more than a half",
    }
    assert models["rmu"]["checks"][-1]["flag"] == "valid"
    doubted = [one for one in models["npo"]["attacks"] if "S99 full-moon" in one["validity"]]
    assert doubted, "a doubt about all attacks reaches those that held"
    assert "suspect adversaries" in models["npo"]["flags"]
    page = render(found)
    for text in ("S99", "Is the moon full?", "full-moon", "phase of the moon"):
        assert text in page
    told = " ".join(plain(found).split())
    assert "flag: npo: suspect adversaries" in told
    assert "check S99 (Is the moon full?): suspect on npo: full-moon [0.75]" in told
    assert re.search(r"flag: npo: suspect adversaries: \S+ \(S99 full-moon\)", told)


def test_without_its_file_nobody_asks() -> None:
    found = verdict(*sample(), draws=DRAWS)
    assert "Is the moon full?" not in render(found)
    assert "flag: npo: suspect adversaries" not in " ".join(plain(found).split())
