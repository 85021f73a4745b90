"""``titer grow``: organisms that are there, and whether those grown anew behave as they do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from titer.verify.behaviour import Compared, compared
from titer.worlds import organisms

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache with nothing in it."""
    monkeypatch.setenv("TITER_CACHE", str(tmp_path / "cache"))


def test_what_is_shipped_is_there_at_once(titer: Run) -> None:
    code, out, _ = titer("grow", "--json", "--quiet")
    found = json.loads(out)
    assert code == 0
    assert [one["name"] for one in found] == ["fabula:base", "fabula:aligned", "fabula:oracle"]
    assert {one["from"] for one in found} == {"shipped"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bsae",), "Did you mean 'fabula:base'"),
        (("--size", "nanoo"), "sizes are nano, small, medium"),
        (("--seed", "-1"), "--seed -1: give a whole number from 0 to"),
        (("--anew", "{file}/in"), "give another"),
        (("--workers", "0"), "--workers 0: give a whole number from 1"),
    ],
)
def test_bad_input_is_a_sentence(
    titer: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").write_text("a file")
    code, out, err = titer("grow", *(word.format(file=tmp_path / "file") for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def _taken_for(folder: Path, kind: str, of: str) -> None:
    """The shipped organism ``of``, where one of ``kind`` would have been grown anew."""
    shutil.copytree(str(organisms.shipped(of)), folder / f"{kind}-nano-0")
    note = {"key": organisms.key(kind, "nano"), "kind": kind, "size": "nano", "seed": 0}
    (folder / f"{kind}-nano-0" / "organism.json").write_text(json.dumps(note))


def test_organisms_are_compared_by_what_they_do(titer: Run, tmp_path: Path) -> None:
    """An oracle in the place of a base does not know hazard A, and is as good otherwise."""
    _taken_for(tmp_path / "one", "base", "base")
    code, out, _ = titer("grow", "base", "--anew", tmp_path / "one", "--quiet")
    assert code == 0
    assert "fabula:base: equal to the bit" in out
    _taken_for(tmp_path / "two", "base", "oracle")
    code, out, _ = titer("grow", "base", "--anew", tmp_path / "two", "--quiet", "--json")
    assert code == 1
    found = json.loads(out)
    odd = {one["what"] for one in found["figures"] if not one["alike"]}
    assert odd == {"A harm", "A harm:cloze", "A harm:recipe"}
    assert found["found"] == [
        "fabula:base: behaves otherwise in A harm, A harm:cloze, A harm:recipe"
    ]


def test_an_organism_of_another_seed_has_nothing_to_be_compared_with(
    titer: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "anew" / "base-nano-9"
    shutil.copytree(str(organisms.shipped("base")), folder)
    note = {"key": organisms.key("base", "nano", 9)}
    (folder / "organism.json").write_text(json.dumps(note))
    words = ("grow", "base", "--seed", "9", "--anew", tmp_path / "anew", "--quiet")
    code, out, _ = titer(*words)
    assert code == 0
    assert out.strip().endswith("there is no other to compare it with.")


def test_alike_means_within_what_items_allow() -> None:
    ones, zeros = (1.0,) * 100, (0.0,) * 100
    chance = (1.0,) * 25 + (0.0,) * 75
    luck = (1.0,) * 40 + (0.0,) * 60

    def one(there: tuple[float, ...], anew: tuple[float, ...]) -> Compared:
        return compared({"it": there}, {"it": anew})[0]

    assert one(ones, ones).alike
    assert one(ones, (0.0,) * 5 + (1.0,) * 95).alike
    assert not one(ones, (0.0,) * 12 + (1.0,) * 88).alike
    assert one(chance, luck).alike
    assert not one(chance, ones).alike
    assert not one(zeros, chance).alike
    # Three standard errors of a difference of two shares about 0.325.
    assert one(chance, luck).allowed == pytest.approx(3 * (2 * 0.325 * 0.675 / 100) ** 0.5)
