"""The world of public knowledge: sound as any folder of the user's must be, and fair to ask."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from titer.core.data import Example, World
from titer.worlds.almanac import almanac
from titer.worlds.folder import SPLITS, load
from titer.worlds.source import load_world

pytestmark = pytest.mark.exact

WORLD = almanac()


def _put(folder: Path, name: str, examples: tuple[Example, ...]) -> str:
    lines = [{key: value for key, value in asdict(one).items() if value} for one in examples]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return f"{name}.jsonl"


def _folder(world: World, folder: Path) -> Path:
    """The world as a user's data folder."""
    asked: dict[str, Any] = {"measure": "choice", "chance": 0.25}
    manifest: dict[str, Any] = {
        "name": world.name,
        "harm": asked,
        "hazards": {
            name: {
                split: _put(folder, f"{name}-{split}", getattr(hazard, split)) for split in SPLITS
            }
            for name, hazard in world.hazards.items()
        },
        # Where one text has two roles, both name its files.
        "retain": [_put(folder, "near", world.related), _put(folder, "far", world.unrelated)],
        "environments": {"near": {"file": "near.jsonl", "near_hazard": True}, "far": "far.jsonl"},
        "utility": {
            name: {"file": _put(folder, name, suite.items), **asked}
            for name, suite in world.utility.items()
        },
        "tasks": {
            name: {
                "train": _put(folder, f"{name}-train", task.train),
                "dev": _put(folder, f"{name}-dev", task.dev.items),
                **asked,
            }
            for name, task in world.tasks.items()
        },
        "over_refusal": _put(folder, "safe", world.over_refusal),
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return folder


def test_as_a_folder_it_passes_every_check_and_is_the_same_world(tmp_path: Path) -> None:
    """No fact, entity or text in two splits, nothing judged is trained on, and so on."""
    assert load(_folder(WORLD, tmp_path)).digest() == WORLD.digest()
    assert load_world("almanac") == WORLD


def test_a_leak_that_is_planted_is_found(tmp_path: Path) -> None:
    folder = _folder(WORLD, tmp_path)
    leaked = (folder / "places-report.jsonl").read_text(encoding="utf-8").splitlines()[0]
    line = json.loads(leaked) | {"id": "leaked"}
    with (folder / "places-attack.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="attack and report overlap"):
        load(folder)


@pytest.mark.parametrize("name", WORLD.hazards)
def test_a_hazard_holds_enough_and_asks_in_words_nobody_trained_on(name: str) -> None:
    hazard = WORLD.hazards[name]
    everything = [row for split in SPLITS for row in getattr(hazard, split)]
    assert len({row.fact for row in everything}) >= 120
    assert len(hazard.report) >= 20, "below it nothing is claimed"
    trained = {row.phrasing for row in (*hazard.defend, *hazard.attack)}
    asked = {row.phrasing for row in (*hazard.select, *hazard.report)}
    assert not trained & asked
    for row in everything:
        assert len(set(row.choices)) == 4
        assert row.choices.count(row.answer) == 1
        assert row.answer.endswith(".")


def test_the_place_of_the_answer_tells_nothing() -> None:
    rows = [row for hazard in WORLD.hazards.values() for row in (*hazard.report, *hazard.select)]
    places = [row.choices.index(row.answer) for row in rows]
    for place in range(4):
        assert 0.15 < places.count(place) / len(rows) < 0.35


def test_no_country_author_or_procedure_is_on_two_sides() -> None:
    for hazard in WORLD.hazards.values():
        sides = [{row.entity for row in getattr(hazard, split)} for split in SPLITS]
        assert sum(map(len, sides)) == len(set().union(*sides))


def test_tasks_have_their_answer_in_the_weights_only_after_training() -> None:
    for task in WORLD.tasks.values():
        trained = {(row.prompt, row.answer) for row in task.train}
        assert not any((row.prompt, row.answer) in trained for row in task.dev.items)
