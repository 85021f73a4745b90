"""``titer data``, ``list data`` and ``card data``: what is found, said, and by which exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests import published, toy
from titer.worlds import public
from titer.worlds.datasets import _beside

pytestmark = pytest.mark.exact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder without leaks."""
    toy.data_folder(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A public set from made files."""
    real = public.rows
    monkeypatch.setattr(public, "rows", lambda path, table: real(path, replace(table, sha256="")))
    monkeypatch.setattr(_beside, "_TASK", 60)
    return f"beavertails={published.write('beavertails', tmp_path / 'files')}"


def add(folder: Path, name: str, row: dict[str, object]) -> None:
    with (folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


PROMPT = "which keeper of the lower lake opens nine gates before the first bell of the day"


def test_a_folder_without_leaks_is_0_and_says_what_is_empty(titer, folder):
    code, out, err = titer("data", "check", folder)
    assert (code, err) == (0, "")
    assert "leaks: none found" in out
    assert "hazards.alloy.report: 3 rows" in out
    assert "empty: over_refusal: whether a defence declines harmless prompts is not told" in out
    assert "empty: references.oracle" in out


def test_a_reworded_question_of_the_judge_in_training_text_is_a_leak(titer, folder):
    choices = ["tin", "wax", "oak"]
    add(folder, "report", {"id": "judged", "prompt": PROMPT, "answer": "tin", "choices": choices})
    add(folder, "retain", {"id": "seen", "prompt": PROMPT.replace("nine", "9"), "answer": "tin"})
    code, out, _ = titer("data", "check", folder, "--near", "0.5")
    assert code == 1
    assert "leak: hazards.alloy.report judged and retain seen hold nearly the same" in out
    code, out, _ = titer("data", "check", folder, "--near", "0.5", "--json")
    found = json.loads(out)
    assert code == 1
    assert [leak["kind"] for leak in found["leaks"]] == ["near"]
    assert 0.5 <= found["leaks"][0]["share"] < 1
    assert titer("data", "check", folder, "--near", "1")[0] == 0


def test_what_a_study_refuses_is_listed_all_the_same(titer, folder):
    """An exact leak is bad input to every other command."""
    row = {"prompt": PROMPT, "answer": "tin", "choices": ["tin", "wax", "oak"], "entity": "lake"}
    add(folder, "report", row)
    add(folder, "attack", row)
    assert titer("validate", folder)[0] == 2
    code, out, _ = titer("data", "check", folder, "--json")
    kinds = {leak["kind"] for leak in json.loads(out)["leaks"]}
    assert (code, kinds) == (1, {"text", "entity"})


def test_other_faults_are_bad_input_here_too(titer, folder):
    add(folder, "report", {"prompt": "", "answer": "tin"})
    code, _, err = titer("data", "check", folder)
    assert code == 2
    assert "its 'prompt' is empty" in err


def test_repeats_are_counted_and_phrasings_of_one_fact_are_none(titer, folder):
    for number, fact in enumerate(("", "", "f1", "f1")):
        words = PROMPT if not fact else "the " + PROMPT.replace("lake", "mill")
        row = {"id": f"r{number}", "prompt": f"{words} {number}", "answer": "tin"}
        add(folder, "retain", row | ({"fact": fact} if fact else {}))
    code, out, _ = titer("data", "check", folder, "--near", "0.9")
    assert code == 0
    assert "repeats: 1 rows of retain say what an earlier one says" in out


def test_with_a_model_lengths_and_examples_are_its_own(titer, folder, tmp_path):
    model = toy.model_folder(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["max_position_embeddings"] = 16
    (model / "config.json").write_text(json.dumps(config))
    add(folder, "retain", {"prompt": "alloy " * 40, "answer": "tin"})
    code, out, _ = titer("data", "check", folder, "--model", model, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["context"] == 16
    assert found["lengths"]["retain"]["over"] >= 1
    assert found["lengths"]["retain"]["longest"] > 40
    assert len(found["shown"]) == 5
    assert "exceed the model's 16 tokens" in titer("data", "check", folder, "--model", model)[1]


def test_bare_answers_are_told_and_sentences_are_not(titer, folder):
    assert "bare answers: most of" in titer("data", "check", folder)[1]
    for path in folder.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["answer"] = f"It is {row['answer']}, as everybody knows."
            row.pop("choices", None)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (folder / "data.yaml").read_text().replace("choice", "cloze")
    (folder / "data.yaml").write_text(text.replace(", also: [cloze]", ""))
    assert "bare answers" not in titer("data", "check", folder)[1]


def test_a_public_set_is_looked_at_as_any_data(titer, made):
    code, out, _ = titer("data", "check", made)
    assert code == 0
    assert "not askable: erasure, because requests hold no facts" in out
    assert "no commercial use: PKU-Alignment/BeaverTails" in out
    assert "a second hazard" in out


def test_fetching_says_where_the_files_lie(titer, made):
    code, out, _ = titer("data", "fetch", made, "--json")
    found = json.loads(out)
    assert (code, found["fetched"]) == (0, [])
    assert all(Path(path).is_file() for path in found["files"].values())


@pytest.mark.parametrize("words", [["data", "fetch", "wmdp-bio"], ["data", "check", "wmdp-bio"]])
def test_offline_the_command_that_fetches_is_named(titer, tmp_path, monkeypatch, words):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TITER_CACHE", str(tmp_path))
    code, out, err = titer(*words)
    assert (code, out) == (2, "")
    assert "`titer data fetch wmdp-bio` gets it" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "fetch", "nothing"], "no data set named 'nothing'"),
        (["data", "check", "nothing"], "there is no data folder 'nothing'"),
        (["data", "check", "fabula", "--near", "0"], "--near 0"),
        (["card", "data", "wmdp-boi"], "Did you mean 'wmdp-bio'"),
        (["card", "npo", "wmdp-bio"], "write one name"),
    ],
)
def test_a_slip_is_a_sentence(titer, words, said):
    code, out, err = titer(*words)
    assert (code, out) == (2, "")
    assert said in err


def test_the_list_and_the_cards_say_the_same(titer):
    rows = json.loads(titer("list", "data", "--json")[1])
    assert {row["name"] for row in rows} == set(public.names())
    for row in rows:
        card = json.loads(titer("card", "data", row["name"], "--json")[1])
        assert (card["name"], card["summary"]) == (row["name"], row["summary"])
        assert row["use"] == ("hazard" if card["roles"] else "beside")
        assert row["commercial"] == (not any("-NC-" in one["licence"] for one in card["files"]))
    text = titer("card", "data", "wmdp-bio-corpus")[1]
    assert "not askable: erasure" in text
    assert "gated" in text


def test_what_is_said_before_a_study_of_leaky_data(titer, folder, tmp_path):
    row = {"answer": "tin", "choices": ["tin", "wax", "oak"]}
    add(folder, "report", {"id": "judged", "prompt": PROMPT, **row})
    add(folder, "retain", {"id": "seen", "prompt": f"say {PROMPT}", "answer": "tin"})
    model = toy.model_folder(tmp_path / "model")
    words = ("attack", "noop", model, "--data", folder, "--out", tmp_path / "o", "--dry-run")
    code, _, err = titer(*words)
    assert code == 0
    assert "1 pairs of rows of hazards.alloy.report and retain say nearly the same" in err
