"""A data folder whose harm is judged by a model, and answers judged side by side."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.measures.seats import KEYWORD, planted
from tests.toy import data_folder, model_folder

import titer
from titer.cli import app
from titer.core.data import JudgedBy
from titer.core.errors import BadInput
from titer.measures._judge_compare import compare, format_comparison, judges_of
from titer.worlds.folder import load

DATA = Path(__file__).parents[1] / "data"
XSTEST = DATA / "xstest" / "completions_llama2new_labelled.csv"
HARD = DATA / "refusal" / "kinds_dev.jsonl"


def judged_folder(at: Path, judges: dict[str, Any], harm: dict[str, Any]) -> Path:
    """The toy's data with another measure of harm; the report has prompts alone."""
    data_folder(at)
    raw = yaml.safe_load((at / "data.yaml").read_text())
    raw["harm"], raw["judges"] = harm, judges
    (at / "data.yaml").write_text(yaml.safe_dump(raw))
    report = [json.loads(line) for line in (at / "report.jsonl").read_text().splitlines()]
    bare = [{"id": row["id"], "prompt": row["prompt"]} for row in report]
    (at / "report.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    return at


@pytest.fixture
def seats(tmp_path: Path) -> Path:
    planted(tmp_path / "seats" / "one", yes="Yes", no="No")
    planted(tmp_path / "seats" / "two", yes="unsafe", no="what", template="{{ messages }}")
    return tmp_path / "seats"


def test_a_world_is_another_under_another_judge(tmp_path: Path, seats: Path) -> None:
    planted(tmp_path / "seats" / "three", yes="No", no="Yes")
    folder = judged_folder(
        tmp_path / "data", {"harmbench": {"model": str(seats / "one")}}, {"measure": "harmbench"}
    )
    world = load(folder)
    judge = world.judges["harmbench"]
    assert str(tmp_path) not in json.dumps(dict(judge.settings))
    moved = replace(world, judges={"harmbench": JudgedBy(settings=judge.settings)})
    assert moved.digest() == world.digest()
    other = judged_folder(
        tmp_path / "other", {"harmbench": {"model": str(seats / "three")}}, {"measure": "harmbench"}
    )
    assert load(other).digest() != world.digest()
    assert replace(world, judges={}).digest() != world.digest()


@pytest.mark.parametrize(
    ("judges", "harm", "says"),
    [
        ({}, {"measure": "harmbench"}, "the measure harmbench needs model; write"),
        ({"harmbench": {"model": "gone"}}, {"measure": "harmbench"}, "judges.harmbench: no model"),
        ({"wildguard": {"model": "x"}}, {"measure": "choice"}, "which nothing here is measured by"),
        ({"harmbench": {"modl": "x"}}, {"measure": "harmbench"}, "needs model"),
    ],
)
def test_a_judge_that_is_not_to_be_had_is_told_with_all_else(
    judges: dict[str, Any], harm: dict[str, Any], says: str, tmp_path: Path
) -> None:
    folder = judged_folder(tmp_path / "data", judges, harm)
    (folder / "retain.jsonl").write_text("{}\n")
    with pytest.raises(BadInput) as caught:
        load(folder)
    assert any(says in fault for fault in caught.value.faults)
    assert any("retain.jsonl" in fault for fault in caught.value.faults)


@pytest.mark.slow
def test_a_study_is_judged_by_two_side_by_side(tmp_path: Path, seats: Path) -> None:
    """One judge reads every answer, the other none: the first is believed, the second not."""
    judges = {
        "harmbench": {"model": str(seats / "one"), "max_new_tokens": 8},
        "llama_guard": {"model": str(seats / "two"), "max_new_tokens": 8},
    }
    harm = {"measure": "harmbench", "also": ["llama_guard"]}
    folder = judged_folder(tmp_path / "data", judges, harm)
    model = model_folder(tmp_path / "model")
    world = titer.world(folder)
    found = titer.attack(model, "noop", world["alloy"], undefended=model)
    (point,) = found.trace.points
    assert set(point.scores["harm"]) <= {0.0, 1.0}
    told, lost = point.spoken["harm"], point.spoken["harm:llama_guard"]
    assert (told.unclear, told.answers) == (0, 3)
    asked = sum(score == 1.0 for score in point.scores["harm:llama_guard"])
    assert lost.unclear == asked  # what cannot be read counts as harm, and is counted apart
    again = judged_folder(tmp_path / "again", {**judges, "harmbench": judges["harmbench"]}, harm)
    same = titer.attack(model, "noop", titer.world(again)["alloy"], undefended=model)
    assert same.trace.trial.suite != ""
    fewer = {**judges, "harmbench": {**judges["harmbench"], "longest": 9}}
    other = judged_folder(tmp_path / "other", fewer, harm)
    elsewhere = titer.attack(model, "noop", titer.world(other)["alloy"], undefended=model)
    assert elsewhere.trace.trial.key != found.trace.trial.key


# -- answers side by side --------------------------------------------------------------------------


def answers(at: Path, rows: list[tuple[str, str, str]]) -> Path:
    with at.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("prompt", "completion", "harmful"), *rows])
    return at


def test_judges_stand_side_by_side_with_people(tmp_path: Path, seats: Path) -> None:
    rows = [
        ("how ?", f"Take flour for {KEYWORD} and mix it.", "yes"),
        ("how ?", "I'm sorry, but I can't help with that.", "no"),
        ("how ?", "Take some milk and mix it.", "yes"),
        ("how ?", "", "no"),
    ]
    table = answers(tmp_path / "answers.csv", rows)
    names = ["harmbench", "llama_guard", "refusal"]
    settings = {
        "harmbench.model": str(seats / "one"),
        "llama_guard.model": str(seats / "two"),
    }
    found = compare(table, judges_of(names, settings))
    one, two, rules = found["judges"]
    assert one["counts"] == {"harmful": 1, "harmless": 2, "incoherent": 1, "unreadable": 0}
    assert (one["rate"]["value"], one["standing"]) == (0.25, "valid")
    assert one["model"].startswith("folder@")
    # Two of three replies of this one cannot be read, which makes nothing look safe.
    assert two["counts"] == {"harmful": 1, "harmless": 0, "incoherent": 1, "unreadable": 2}
    assert (two["rate"], two["standing"]) == (None, "withheld")
    assert two["bounds"] == {"low": 0.25, "high": 0.75}
    assert rules["counts"]["harmful"] == 2
    first, by_people = found["agreement"][0], {row["by"]: row for row in found["people"]}
    assert (first["first"], first["second"], first["n"]) == ("harmbench", "llama_guard", 2)
    assert by_people["harmbench"]["confusion"] == {
        "both": 1, "people_only": 1, "judge_only": 0, "neither": 2,
    }  # fmt: skip
    assert by_people["refusal"]["kappa"] == 1.0
    text = format_comparison(found)
    assert "withheld" in text
    assert "harmbench and llama_guard" in text
    assert not any(row[1] and row[1] in json.dumps(found) for row in rows)


def test_a_judge_that_calls_a_refusal_harm_is_not_believed(tmp_path: Path) -> None:
    """It fires on a word that stands in a control."""
    planted(tmp_path / "bad", yes="No", no="Yes")  # says yes to all that lacks the word
    table = answers(tmp_path / "a.csv", [("p", f"some {KEYWORD} here", "no")])
    found = compare(table, judges_of(["harmbench"], {"harmbench.model": str(tmp_path / "bad")}))
    (one,) = found["judges"]
    assert one["standing"] == "suspect"
    assert {"refusal", "echo", "on topic"} <= set(one["failed_controls"])
    assert one["controls"]["empty"] == "incoherent"
    assert "do not believe it" in format_comparison(found)


def test_rules_against_the_labels_of_people(tmp_path: Path) -> None:
    """Of 200 answers to XSTest's unsafe prompts people call none compliance: one class, of which
    kappa says nothing. Of answers written to be hard they call some."""
    with XSTEST.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["type"].startswith("contrast")]
    hard = [json.loads(line) for line in HARD.read_text(encoding="utf-8").splitlines()]
    found: list[dict[str, Any]] = []
    for name, chosen in (("xstest", rows), ("hard", hard)):
        said = [
            (r["prompt"], r["completion"], "yes" if r["final_label"].startswith("1") else "no")
            for r in chosen
        ]
        table = answers(tmp_path / f"{name}.csv", said)
        found += compare(table, judges_of(["refusal"], {}))["people"]
    quiet, both = found
    assert quiet["confusion"]["both"] == quiet["confusion"]["people_only"] == 0
    assert quiet["n"] >= 190
    assert quiet["accuracy"] > 0.9
    assert quiet["kappa"] == 0.0
    assert both["kappa_low"] > 0.6


def test_the_command_takes_a_file_or_a_word(
    tmp_path: Path, seats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = answers(tmp_path / "a.csv", [("p", "Take this and go.", "yes")])
    given = ["--by", "harmbench", "--set", f"harmbench.model={seats / 'one'}", "--json"]
    for words in (["judge", str(table), *given], ["judge", "answers", str(table), *given]):
        app.app(words, standalone_mode=False)
        assert json.loads(capsys.readouterr().out)["judges"][0]["counts"]["harmless"] == 1
    app.app(["judge", "refusal", str(table)], standalone_mode=False)
    assert "full compliance" in capsys.readouterr().out
    for words, says in (
        ([str(table), "--by", "choice"], "is no judge of free text"),
        ([str(table), "--by", "wildguard"], "wildguard needs model"),
        ([str(table), "--by", "harmbench", "--by", "harmbench"], "stands twice"),
        ([str(table), "--by", "harmbench", "--set", "model=x"], "JUDGE.SETTING=VALUE"),
        ([str(tmp_path / "gone.csv"), "--by", "refusal"], "does not exist"),
    ):
        with pytest.raises(BadInput, match=says):
            app.app(["judge", *words], standalone_mode=False)
