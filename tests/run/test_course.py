"""What a defence writes down of its own way reaches the model's folder, the study and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toy import data_folder, model_folder
from titer.core import catalogue
from titer.core.records import Trace, part
from titer.core.study import Manifest, Study
from titer.executors.inline import Inline
from titer.plan.manifest import describe
from titer.plan.request import assemble, check
from titer.report.html import render
from titer.run.defended import immunised
from titer.trial.attempt import attack
from titer.trial.immunise import account
from titer.verdict.judge import judge

pytestmark = pytest.mark.exact


@pytest.mark.slow
def test_the_course_of_a_game_reaches_the_report(tmp_path: Path) -> None:
    request = Study(
        models=[str(model_folder(tmp_path / "model"))],
        data=str(data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
        cap=2,
        defences=["antidote"],
    )
    study, plans = assemble(check(request))
    # A new adversary is tried after fifty steps.
    plans = [replace(one, steps=60) for one in plans]
    study = immunised(study, plans, tmp_path / "run", Inline())
    made = next(subject for subject in study.subjects if subject.defence == "antidote")
    assert [row["step"] for row in made.course][:2] == [0.0, 10.0]
    assert any("fresh" in row for row in made.course)
    written = Manifest.from_json(json.loads(json.dumps(describe(study).to_json())))
    found = judge(written, [])
    entry = found[made.name]
    assert [dict(row) for row in entry.course] == [dict(row) for row in made.course]
    assert set(made.doubts) <= set(entry.flags)
    page = render(found)
    assert 'id="games"' in page
    assert "a new one" in page
    bare = tuple(replace(model, course=()) for model in found)
    assert 'id="games"' not in render(replace(found, models=bare))


def test_what_a_folder_says_of_itself_is_read_with_care(tmp_path: Path) -> None:
    assert account(tmp_path) == ((), ())
    (tmp_path / "titer.json").write_text("[1")
    assert account(tmp_path) == ((), ())
    rows = [{"step": 1, "loss": 2.0}, {"step": "x"}, 5, {"loss": float("inf")}]
    flags = ["game-oscillates", "", "y" * 500, 7]
    (tmp_path / "titer.json").write_text(json.dumps({"course": rows, "flags": flags}))
    assert account(tmp_path) == (({"step": 1.0, "loss": 2.0},), ("game-oscillates",))
    (tmp_path / "titer.json").write_text(json.dumps({"course": "abc", "flags": {"a": 1}}))
    assert account(tmp_path) == ((), ())


def test_a_trace_keeps_the_course_and_comes_back(tmp_path: Path) -> None:
    request = Study(
        models=[str(model_folder(tmp_path / "model"))],
        data=str(data_folder(tmp_path / "data")),
        out=tmp_path / "run",
    )
    study, _ = assemble(check(request, alone=True))
    from titer.core.lm import LM

    noop = part("noop", catalogue.build("attack", "noop", {}))
    trial = study.trial(study.undefended(), noop, 1, 0, label="noop")
    trace, _, _ = attack(LM.load(study.undefended().folder), trial, study.world)
    assert trace.course == ()
    rowed = Trace(**{**{f: getattr(trace, f) for f in trace.__slots__}, "course": ({"step": 1.0},)})
    assert Trace.from_json(json.loads(json.dumps(rowed.to_json()))) == rowed
