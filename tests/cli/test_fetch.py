"""``titer fetch`` and the demo on a real model: lists, and sentences before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.exact


def test_without_a_name_it_lists_what_there_is(titer: Run) -> None:
    code, out, _ = titer("fetch", "--json")
    assert code == 0
    [only] = json.loads(out)
    assert (only["name"], only["licence"]) == ("smollm2", "Apache-2.0")
    assert "smollm2" in titer("fetch")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("smolm2", "--out", "m"), "Did you mean 'smollm2'?"),
        (("smollm2",), "where to? Write `titer fetch smollm2 --out DIR`."),
    ],
)
def test_what_is_missing_is_one_sentence(
    titer: Run, words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = titer("fetch", *words)
    assert code == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_of_the_real_demo_writes_no_model(titer: Run, tmp_path: Path) -> None:
    code, _, err = titer("demo", "--real", "--dry-run", "--out", tmp_path / "run")
    assert code == 2
    assert f"`titer fetch smollm2 --out {tmp_path / 'run-smollm2'}` first" in err
    assert list(tmp_path.iterdir()) == []
