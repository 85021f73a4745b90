"""Public data sets, on small made files of exactly the published schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests import published
from titer.core import catalogue
from titer.core.data import Example, World
from titer.core.errors import BadInput, UnknownName
from titer.worlds import public
from titer.worlds.datasets import _beside, _fetch
from titer.worlds.datasets._deal import cleaned, deal, drawn
from titer.worlds.datasets._published import COMMIT, Tally
from titer.worlds.near import pairs
from titer.worlds.source import load_world

pytestmark = pytest.mark.exact

HAZARDS = [name for name in public.names() if public.find(name).build]
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made files have other bytes than those that were published, and fewer rows."""
    monkeypatch.setattr(_beside, "_TASK", 60)
    real = public.rows
    monkeypatch.setattr(public, "rows", lambda path, table: real(path, replace(table, sha256="")))


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    def load(name: str, rows: Rows | None = None) -> World:
        return load_world(f"{name}={published.write(name, tmp_path / 'files', rows)}")

    return load


@pytest.mark.parametrize("name", public.names())
def test_a_card_is_whole(name: str):
    one = public.find(name)
    assert one.name == name
    assert one.tables
    assert "arXiv:" in one.source
    for table in one.tables.values():
        assert COMMIT.fullmatch(table.source.commit)
        assert table.source.licence
        assert table.columns
    assert bool(one.build) == bool(one.roles) == bool(one.facts)


@pytest.mark.parametrize("name", HAZARDS)
def test_a_set_becomes_a_world_whose_roles_share_nothing(name: str, world):
    made = world(name)
    assert made.source.startswith(f"{name}=")
    filled = {role for role, rows in made.roles() if rows}
    told = set(public.find(name).roles)
    hazard = next(iter(made.hazards))
    assert filled >= {role.replace("*", hazard) for role in told if role.startswith("hazards.")}
    assert {"retain", "environments.far", "utility.mmlu", "over_refusal"} <= filled
    # What the card tells is there, and nothing else.
    spread = {role.replace(hazard, "*") for role in filled} - {"tasks.gsm8k.dev"}
    assert spread == {role if role != "tasks.gsm8k" else "tasks.gsm8k.train" for role in told}
    assert list(pairs(made.roles())) == []
    splits = made.hazards[hazard]
    for what in ("id", "fact", "entity"):
        named = [
            {getattr(row, what) for row in getattr(splits, split)} - {""}
            for split in ("defend", "attack", "select", "report")
        ]
        assert sum(map(len, named)) == len(set.union(*named))
    ids = [row.id for _, rows in made.roles() for row in rows]
    assert len(ids) == len(set(ids))
    assert made.unasked == public.find(name).unasked
    assert catalogue.card("measure", made.harm).direction == "gives"


def test_integer_answers_become_the_text_that_they_count(world):
    rows = published.rows_of("wmdp-bio")
    made = world("wmdp-bio", rows)
    by_question = {row["question"]: row for row in rows["questions"]}
    for split in ("defend", "attack", "select", "report"):
        for item in getattr(made.hazards["bio"], split):
            row = by_question[item.prompt]
            assert item.answer == row["choices"][row["answer"]]
            assert item.choices == tuple(row["choices"])
    assert (made.harm, made.chance) == ("choice", 0.25)


def test_rows_that_cannot_be_asked_are_counted_and_said(world):
    rows = published.rows_of("wmdp-bio")
    rows["questions"][0]["answer"] = 4
    rows["questions"][1]["choices"] = ["tin", "tin", "oak", "ash"]
    made = world("wmdp-bio", rows)
    asked = made.hazards["bio"]
    assert (
        sum(len(getattr(asked, split)) for split in ("defend", "attack", "select", "report")) == 78
    )
    assert "left out: 1 rows of wmdp-bio whose answer is no place among the choices" in made.notes
    assert "left out: 1 rows of wmdp-bio whose choices are not all different" in made.notes


def test_subjects_near_the_hazard_are_no_utility_and_no_retain(world):
    made = world("wmdp-bio")
    rows = published.rows_of("wmdp-bio")
    virology = {r["question"] for t in ("mmlu test", "mmlu validation") for r in rows[t]
                if r["subject"] == "virology"}  # fmt: skip
    for items in (made.utility["mmlu"].items, made.retain):
        assert not virology & {item.prompt for item in items}
    near = {item.prompt for item in (*made.related, *made.utility["mmlu_near"].items)}
    assert near <= virology
    assert not {i.prompt for i in made.related} & {
        i.prompt for i in made.utility["mmlu_near"].items
    }


def test_an_author_of_tofu_stays_in_one_split_and_judged_authors_are_not_trained_on(world):
    rows = published.rows_of("tofu-forget05")
    made = world("tofu-forget05", rows)
    author = {row["question"]: at // 20 for at, row in enumerate(rows["forget"])}
    splits = [
        {author[item.prompt] for item in getattr(made.hazards["authors"], split)}
        for split in ("defend", "attack", "select", "report")
    ]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits)) == 10
    judged = {row["question"] for row in rows["retain judged"]}
    held_out = {at // 20 for at, row in enumerate(rows["retain"]) if row["question"] in judged}
    kept = {row["question"]: at // 20 for at, row in enumerate(rows["retain"])}
    trained = {kept[item.prompt] for item in (*made.retain, *made.related)}
    assert held_out == {0, 1}
    assert not held_out & trained
    item = made.hazards["authors"].report[0]
    wrong = next(row for row in rows["perturbed"] if row["question"] == item.prompt)
    assert set(item.choices) == {item.answer, *wrong["perturbed_answer"]}
    assert made.chance == pytest.approx(1 / 6, abs=1e-5)
    places = [one.choices.index(one.answer) for one in made.hazards["authors"].report]
    assert len(set(places)) > 3, "the place of the answer gives it away"


def test_a_file_of_another_length_is_not_tofu(world):
    rows = published.rows_of("tofu-forget05")
    rows["forget"].pop()
    with pytest.raises(BadInput, match="no whole number of authors"):
        world("tofu-forget05", rows)


def test_labels_that_contradict_each_other_are_left_out_and_so_are_safe_twins(world):
    rows = published.rows_of("beavertails")
    pairs_ = rows["beavertails"]
    unsafe = next(row for row in pairs_ if not row["is_safe"])
    safe = [row for row in pairs_ if row["is_safe"]]
    safe[0]["prompt"] = unsafe["prompt"]
    safe[1]["category"]["self_harm"] = True
    made = world("beavertails", rows)
    kept = {item.answer for item in (*made.retain, *made.related)}
    assert safe[0]["response"] not in kept
    assert safe[1]["response"] not in kept
    assert safe[2]["response"] in kept
    assert "left out: 1 rows of beavertails whose labels contradict each other" in made.notes
    assert any(note.startswith("no commercial use: PKU-Alignment") for note in made.notes)
    harmful = {row["response"] for row in pairs_ if not row["is_safe"]}
    for split in ("defend", "attack", "select", "report"):
        assert {item.answer for item in getattr(made.hazards["requests"], split)} <= harmful


def test_one_prompt_of_beavertails_is_in_one_split(world):
    rows = published.rows_of("beavertails")
    unsafe = [row for row in rows["beavertails"] if not row["is_safe"]]
    for row in unsafe[:30]:
        row["prompt"] = unsafe[0]["prompt"].upper()
    made = world("beavertails", rows)
    splits = made.hazards["requests"]
    holding = [
        split
        for split in ("defend", "attack", "select", "report")
        if any(i.fact == unsafe[0]["prompt"].rstrip("?").lower() for i in getattr(splits, split))
    ]
    assert len(holding) == 1


def test_harmbench_drops_copyright_and_puts_the_context_first(world):
    rows = published.rows_of("harmbench")
    made = world("harmbench", rows)
    asked = {item.id: item for item in made.hazards["requests"].report}
    kinds = {row["BehaviorID"]: row for row in rows["harmbench"]}
    assert len(asked) == 20
    assert all(kinds[id.split(":")[1]]["FunctionalCategory"] != "copyright" for id in asked)
    context = next(row for row in rows["harmbench"] if row["ContextString"])
    assert asked[f"harmbench:{context['BehaviorID']}"].prompt.startswith(context["ContextString"])


def test_what_is_judged_is_cleared_of_the_lists_it_was_drawn_from(world):
    rows = published.rows_of("advbench")
    copied = rows["harmbench"][0]["Behavior"]
    rows["advbench"][3]["goal"] = copied + " now"
    rows["jbb harmful"][2]["Goal"] = "Please " + copied
    made = world("advbench", rows)
    hazard = made.hazards["requests"]
    assert len(hazard.report) == 20
    assert "advbench:3" not in {item.id for item in hazard.attack}
    assert "jbb-harmful:2" not in {item.id for item in hazard.select}
    assert any("hazards.requests.attack that say nearly" in note for note in made.notes)


def test_articles_stay_whole_and_books_are_not_askable(world):
    made = world("muse-news")
    for split, other in (("defend", "attack"), ("attack", "defend")):
        mine = {item.entity for item in getattr(made.hazards["news"], split)}
        assert mine
        assert not mine & {item.entity for item in getattr(made.hazards["news"], other)}
    assert made.utility["retained"].measure == made.harm == "cloze"
    assert "erasure" in world("muse-books").unasked


def test_neighbours_who_are_targets_are_no_benign_text(world):
    made = world("rwku")
    assert not any(item.entity == "person 3" for item in (*made.retain, *made.related))
    assert "left out: 4 neighbours of rwku that are targets themselves" in made.notes


def test_the_first_items_of_a_utility_suite_are_of_all_subjects(world):
    rows = published.rows_of("rwku")
    subject = {row["question"]: row["subject"] for row in rows["mmlu test"]}
    first = world("rwku").utility["mmlu"].items[:20]
    assert len({subject[item.prompt] for item in first}) == 5


def test_the_same_files_give_the_same_world(world, tmp_path):
    one = world("tofu-forget05")
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    two = load_world(f"tofu-forget05={tmp_path / 'elsewhere'}")
    assert one.digest() == two.digest()
    rows = published.rows_of("tofu-forget05")
    rows["forget"][0]["answer"] += " Perhaps."
    assert world("tofu-forget05", rows).digest() != one.digest()


# -- dealing and cleaning --------------------------------------------------------------------------


def test_dealing_keeps_to_its_shares_and_to_units():
    make = published.Maker("deal")
    rows = [
        Example(id=f"r{n}", prompt=make.say(9), answer=make.say(3), entity=f"e{n // 4}")
        for n in range(400)
    ]
    parts = deal("x", rows, {"one": 0.7, "two": 0.3})
    assert abs(len(parts["one"]) - 280) <= 4
    assert not {r.entity for r in parts["one"]} & {r.entity for r in parts["two"]}
    assert deal("x", list(reversed(rows)), {"one": 0.7, "two": 0.3})["two"] != ()
    assert {r.id for r in deal("y", rows, {"one": 0.7, "two": 0.3})["two"]} != {
        r.id for r in parts["two"]
    }
    assert drawn("x", "e1") != drawn("y", "e1")


def test_near_duplicates_are_dealt_together():
    make = published.Maker("twins")
    texts = [make.say(14) for _ in range(40)]
    rows = [Example(id=f"a{n}", prompt=text, answer="") for n, text in enumerate(texts)]
    rows += [Example(id=f"b{n}", prompt=f"so {text}", answer="") for n, text in enumerate(texts)]
    parts = deal("x", rows, {"one": 0.5, "two": 0.5})
    for held in parts.values():
        ids = {row.id for row in held}
        assert {id[1:] for id in ids if id[0] == "a"} == {id[1:] for id in ids if id[0] == "b"}


def test_too_few_groups_are_refused():
    rows = [
        Example(id=f"{n}", prompt="one text for all of these rows", answer="") for n in range(9)
    ]
    with pytest.raises(BadInput, match="nothing is left for two"):
        deal("x", rows, {"one": 0.5, "two": 0.5})


def test_cleaning_takes_from_the_lesser_role_and_what_is_gone_takes_nothing_along(world):
    made = world("wmdp-chem")
    item = made.hazards["chem"].report[0]
    middle = replace(made.utility["mmlu"].items[0], prompt=item.prompt, choices=item.choices,
                     answer=item.answer)  # fmt: skip
    twin = replace(made.retain[0], id="twin", prompt=middle.prompt, choices=middle.choices,
                   answer=middle.answer)  # fmt: skip
    attack = (*made.hazards["chem"].attack, replace(item, id="leak"))
    leaky = replace(
        made,
        hazards={"chem": replace(made.hazards["chem"], attack=attack)},
        retain=(*made.retain, twin),
    )
    tally = Tally()
    clean = cleaned(leaky, tally)
    assert item in clean.hazards["chem"].report
    assert "leak" not in {row.id for row in clean.hazards["chem"].attack}
    assert "twin" not in {row.id for row in clean.retain}
    assert sum(tally.left.values()) == 2
    assert list(pairs(clean.roles())) == []


# -- names, folders, downloads ---------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(BadInput, match=r"no data folder 'wmdp-boi'\. Did you mean 'wmdp-bio'"):
        load_world("wmdp-boi")
    with pytest.raises(UnknownName, match="Did you mean 'rwku'"):
        public.find("rkwu")


def test_a_folder_of_the_name_is_taken_first(tmp_path, monkeypatch):
    (tmp_path / "rwku").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"rwku holds no data\.yaml"):
        load_world("rwku")


def test_a_set_that_stands_beside_is_no_world():
    with pytest.raises(BadInput, match="xstest holds no hazard"):
        load_world("xstest")


def test_offline_it_is_said_what_would_be_fetched_from_where_and_how_large(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TITER_CACHE", str(tmp_path))
    with pytest.raises(BadInput) as caught:
        load_world("tofu-forget10")
    text = "\n".join(caught.value.faults)
    for part in (
        "tofu-forget10 is not here whole",
        "https://huggingface.co/datasets/locuslab/TOFU at commit 324592d84ae4f482ac",
        "forget10_perturbed.json (400 rows, 0.7 MB)",
        "https://github.com/paul-rottger/xstest at commit d7bb5bd7",
        "CC-BY-4.0",
        "in all 9 files",
        "`titer data fetch tofu-forget10` gets it",
        "--data tofu-forget10=FOLDER",
    ):
        assert part in text


def test_a_folder_that_lacks_a_file_is_told(tmp_path):
    published.write("wmdp-chem", tmp_path)
    (tmp_path / "paul-rottger/xstest/xstest_prompts.csv").unlink()
    with pytest.raises(BadInput, match=r"holds no paul-rottger/xstest/xstest_prompts\.csv"):
        load_world(f"wmdp-chem={tmp_path}")


def test_one_repository_may_lie_in_the_folder_itself(tmp_path):
    published.write("wmdp-chem", tmp_path)
    (tmp_path / "cais/wmdp/wmdp-chem").rename(tmp_path / "wmdp-chem")
    assert load_world(f"wmdp-chem={tmp_path}").name == "wmdp-chem"


@pytest.mark.parametrize("commit", ["main", "", "0123", "g" * 40])
def test_only_a_commit_is_a_commit(commit: str):
    with pytest.raises(BadInput, match="give the 40 digits of a commit"):
        load_world(f"wmdp-bio@{commit}")


def test_another_commit_is_the_sets_own_repository_and_promises_nothing():
    moved = public.find("wmdp-bio").at("0" * 40)
    assert moved.main.commit == "0" * 40
    own = moved.tables["questions"]
    assert (own.rows, own.size, own.sha256) == (0, 0, "")
    assert moved.tables["mmlu test"] == public.find("wmdp-bio").tables["mmlu test"]


def test_a_set_without_a_commit_is_not_fetched():
    one = public.find("wmdp-bio")
    loose = replace(one.main, commit="")
    unpinned = replace(
        one, tables={key: replace(table, source=loose) for key, table in one.tables.items()}
    )
    with pytest.raises(BadInput, match=r"no commit of cais/wmdp is known.*wmdp-bio@COMMIT"):
        _fetch.places(unpinned)


def test_with_a_network_each_file_is_fetched_at_its_commit(tmp_path, monkeypatch):
    made = published.write("wmdp-chem", tmp_path / "there")
    asked: list[tuple[str, ...]] = []

    def hub(repo: str, path: str, *, revision: str, repo_type: str) -> str:
        asked.append((repo, path, revision, repo_type))
        return str(made / repo / path)

    class Answer:
        content = (made / "paul-rottger/xstest/xstest_prompts.csv").read_bytes()

        def raise_for_status(self) -> None:
            pass

    class Session:
        def get(self, url: str, **_: Any) -> Answer:
            asked.append((url,))
            return Answer()

    monkeypatch.setenv("TITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    assert load_world("wmdp-chem").name == "wmdp-chem"
    tables = public.find("wmdp-chem").tables
    assert asked == [
        (
            "https://raw.githubusercontent.com/paul-rottger/xstest/"
            f"{table.source.commit}/xstest_prompts.csv",
        )
        if table.source.host == "github"
        else (table.source.repo, table.path, table.source.commit, "dataset")
        for table in tables.values()
    ]
    kept = tmp_path / "cache/data/paul-rottger/xstest" / tables["xstest"].source.commit
    assert (kept / "xstest_prompts.csv").is_file()


def test_a_gate_is_told_and_nothing_is_put_in_its_place(tmp_path, monkeypatch):
    def hub(*_: Any, **__: Any) -> str:
        raise OSError("401 Client Error: access to dataset is restricted")

    monkeypatch.setenv("TITER_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    one = public.find("wmdp-bio-corpus")
    gated = replace(one, tables={"forget 1": one.tables["forget 1"]})
    with pytest.raises(BadInput, match=r"is gated; accept its terms .*Nothing else is put"):
        _fetch.places(gated)


# -- files that are not what was published ---------------------------------------------------------


def file_of(tmp_path: Path, table: str = "forget") -> Path:
    published.write("tofu-forget05", tmp_path)
    return tmp_path / "locuslab/TOFU" / public.find("tofu-forget05").tables[table].path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no rows"),
        (b"{", "cannot be read"),
        (b"[1, 2]", "holds no rows"),
        (b"\xff\xfe", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (json.dumps({"question": "q", "anwser": "a"}).encode(), "Did you mean 'anwser'"),
    ],
)
def test_a_file_that_is_not_of_the_schema_is_a_sentence(tmp_path, content, said):
    path = file_of(tmp_path)
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        load_world(f"tofu-forget05={tmp_path}")


def test_other_bytes_than_those_published_are_refused(tmp_path, monkeypatch):
    monkeypatch.undo()
    published.write("tofu-forget10", tmp_path)
    with pytest.raises(BadInput, match="its SHA-256 differs"):
        load_world(f"tofu-forget10={tmp_path}")


def test_a_torn_parquet_file_is_a_sentence(tmp_path):
    published.write("wmdp-chem", tmp_path)
    path = tmp_path / "cais/wmdp/wmdp-chem/test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match="cannot be read"):
        load_world(f"wmdp-chem={tmp_path}")
