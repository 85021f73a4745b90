"""The study of cheats: what it makes is what it says, and its page is of these rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies import cheats
from titer.core.data import World
from titer.worlds.source import load_world


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_result_on_file_is_of_the_rows_that_there_are() -> None:
    _, _, *found = _rows(cheats.RESULTS.read_text(encoding="utf-8"))
    for number, name, truth, before, now in found:
        one = cheats.CHEATS[int(number) - 1]
        assert (name, truth, before) == (one.name, one.truth, one.before)
        assert now
    assert len(found) > 11, "the rows that once had a good score, at least"


def test_a_row_that_was_not_run_is_not_in_the_table() -> None:
    rows = _rows(cheats.table({2: "x", 1: "y"}))
    assert [row[0] for row in rows[2:]] == ["1", "2"]
    assert [row[-1] for row in rows[2:]] == ["y", "x"]


def test_the_testbed_with_one_item_to_report(tmp_path: Path) -> None:
    few = load_world(str(cheats._few_items(tmp_path / "few", 1)))
    whole = load_world(cheats.WORLD)
    mine, all_of_it = (one.hazards[cheats.HAZARD] for one in (few, whole))
    assert mine.report == all_of_it.report[:1]
    assert (mine.attack, mine.defend) == (all_of_it.attack, all_of_it.defend)
    assert _suites(few) == _suites(whole)


def _suites(world: World) -> dict[str, int]:
    return {name: len(suite.items) for name, suite in world.utility.items()}


@pytest.mark.slow
def test_hidden_words_and_silence_are_said(tmp_path: Path) -> None:
    """The cheapest rows, of three steps: nothing is claimed, and the reason is the right one."""
    found = cheats.run(cheats.Kept(tmp_path), [3, 9], seeds=1, cap=3, workers=1)
    assert "harm 1.00 before" in found[3]
    assert "*breached*" in found[3]
    assert "S19" in found[3].rpartition("suspect: ")[2]
    assert "S15 mute" in found[9]
