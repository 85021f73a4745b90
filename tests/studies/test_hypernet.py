"""The study resumes, changes one thing at a time, and its intervals are of the right things."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies._hypertables import interval

from studies import hypernet


def _run(out: Path, *more: str) -> None:
    hypernet.main(["run", "--out", str(out), "--seeds", "2", *more])


def test_a_cell_that_is_there_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    def perform(cell: Any) -> dict[str, Any]:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(cell)
        return {"attacks": {}}

    monkeypatch.setattr(hypernet, "perform", perform)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, "--part", "questions")
    first = list(done)
    done.clear()
    _run(tmp_path, "--part", "questions")
    assert len(first) == len(done) == 3
    assert not [cell for cell in done if cell in first]
    _run(tmp_path, "--part", "questions")
    assert len(done) == 3
    _run(tmp_path, "--part", "ablation", "--minutes", "0")
    assert len(done) == 3


def test_every_arm_changes_one_thing() -> None:
    base = hypernet.rules({})
    for arm, change in hypernet.ARMS.items():
        other = hypernet.rules(change)
        differ = [f.name for f in fields(base) if getattr(base, f.name) != getattr(other, f.name)]
        assert differ == list(change), arm
        assert len(change) <= 1


def test_intervals_of_known_scores() -> None:
    ones = np.ones((3, 50))
    assert interval(ones) == "1.00 [1.00, 1.00]"
    assert interval(ones, np.zeros((3, 50))) == "+1.00 [+1.00, +1.00]"
    # Paired: what differs between items and not between arms leaves no spread.
    mixed = np.tile(np.arange(50) % 2, (3, 1)).astype(float)
    assert interval(mixed, mixed) == "+0.00 [+0.00, +0.00]"
    low, high = interval(mixed).split(" [")[1][:-1].split(", ")
    assert 0.3 < float(low) < 0.5 < float(high) < 0.7


def _cell(arm: str, seed: int, harm: float, worst: float | None) -> dict[str, Any]:
    def scores(value: float) -> dict[str, Any]:
        return {"harm": [value] * 4, "utility": 1.0}

    tried = {"worst": None if worst is None else scores(worst), "last": scores(0.0)}
    found = {"before": scores(harm), "flags": [], "attacks": {"LoRA": tried}}
    return {"cell": {"part": "ablation", "arm": arm, "seed": seed}, "found": found}


def test_tables_compare_seeds_that_both_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [
        _cell("as it is", 0, 0.2, 0.5),
        _cell("as it is", 1, 0.2, 0.7),
        _cell("coupled", 0, 0.1, 0.6),
        _cell("no budget", 0, 0.3, None),
    ]
    for number, one in enumerate(made):
        path = tmp_path / "cells" / f"{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(one))
    hypernet.main(["report", "--out", str(tmp_path)])
    rows = {line.split(" | ")[0].strip("| "): line for line in capsys.readouterr().out.splitlines()}
    assert "0.60 [" in rows["as it is"]
    assert "0.60 [0.60, 0.60]; +0.10 [+0.10, +0.10]" in rows["coupled"]
    # No look kept utility: the attacker is left with what there was before.
    assert "0.30 [0.30, 0.30]; -0.20 [-0.20, -0.20]" in rows["no budget"]
