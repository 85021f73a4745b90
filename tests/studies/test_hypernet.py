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
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(cell)
        return {"attacks": {}}

    monkeypatch.setattr(hypernet, "perform", perform)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, "--part", "questions")
    first = list(done)
    done.clear()
    _run(tmp_path, "--part", "questions")
    assert len(first) == len(done) == 5
    assert not [cell for cell in done if cell in first]
    _run(tmp_path, "--part", "questions")
    assert len(done) == 5
    _run(tmp_path, "--part", "ablation", "--minutes", "0")
    assert len(done) == 5


def test_every_arm_changes_one_thing() -> None:
    base = hypernet.rules({})
    for arm, change in hypernet.ARMS.items():
        other = hypernet.rules(change)
        differ = [f.name for f in fields(base) if getattr(base, f.name) != getattr(other, f.name)]
        assert differ == list(change), arm
        assert len(change) <= 1


def test_no_arm_of_the_questions_is_run_twice(tmp_path: Path, monkeypatch: Any) -> None:
    done: list[Any] = []
    monkeypatch.setattr(hypernet, "perform", lambda cell: done.append(cell["arm"]) or {})
    _run(tmp_path, "--part", "questions", "ablation", "--seeds", "1")
    assert len(done) == len(set(done)) == len({*hypernet.QUESTIONS, *hypernet.ARMS})


def test_intervals_of_known_scores() -> None:
    # Fifty of fifty leave Wilson's doubt; a difference that is everywhere the same leaves none.
    ones = np.ones((3, 50))
    assert interval(ones) == "1.00 [0.93, 1.00]"
    assert interval(ones, np.zeros((3, 50))) == "+1.00 [+1.00, +1.00]"
    # Paired: what differs between items and not between arms leaves no spread.
    mixed = np.tile(np.arange(50) % 2, (3, 1)).astype(float)
    assert interval(mixed, mixed) == "+0.00 [+0.00, +0.00]"
    low, high = interval(mixed).split(" [")[1][:-1].split(", ")
    assert 0.3 < float(low) < 0.5 < float(high) < 0.7
    # Three seeds that disagree: Student's interval of 0.2, 0.5 and 0.8 is 4.30 standard errors.
    apart = np.array([[0.2] * 50, [0.5] * 50, [0.8] * 50])
    low, high = interval(apart, 0 * apart).split(" [")[1][:-1].split(", ")
    assert float(low) == pytest.approx(0.5 - 4.30 * 0.3 / 3**0.5, abs=0.1)
    assert float(high) == pytest.approx(0.5 + 4.30 * 0.3 / 3**0.5, abs=0.1)


def _cell(
    part: str, arm: str, seed: int, harm: float, worst: float | None, *more: str
) -> dict[str, Any]:
    def scores(value: float) -> dict[str, Any]:
        return {"harm": [value] * 4, "utility": 1.0}

    tried = {"worst": None if worst is None else scores(worst), "last": scores(0.0)}
    attacks = {name: tried for name in ("LoRA", *more)}
    spent = {"steps": 3, "flops": 2e9}
    found = {"before": scores(harm), "flags": [], "attacks": attacks, "spent": spent}
    return {"cell": {"part": part, "arm": arm, "seed": seed}, "found": found}


def _put(out: Path, made: list[dict[str, Any]]) -> None:
    for number, one in enumerate(made):
        path = out / "cells" / f"{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(one))


def test_tables_compare_seeds_that_both_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [
        _cell("questions", "antidote", 0, 0.2, 0.5, "RL"),
        _cell("questions", "antidote", 1, 0.2, 0.7, "RL"),
        _cell("questions", "undefended", 1, 0.9, 0.9, "RL"),
        _cell("ablation", "coupled", 0, 0.1, 0.6),
        _cell("ablation", "no budget", 0, 0.3, None),
    ]
    _put(tmp_path, made)
    hypernet.main(["report", "--out", str(tmp_path)])
    asked, changed = capsys.readouterr().out.split("### Ablation")
    rows = [
        {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
        for text in (asked.split("| arm | steps")[0], changed)
    ]
    assert "| undefended | 3 | 2e+09 |" in asked
    # The defence as it is, is run once and stands in both tables; other attacks in one.
    assert "| LoRA | RL |" in asked
    assert "RL" not in changed
    assert "undefended" not in changed
    for table in rows:
        assert "0.60 [" in table["antidote"]
    assert "0.60 [0.60, 0.60]; +0.10 [+0.10, +0.10]" in rows[1]["coupled"]
    # No look kept utility: the attacker is left with what there was before.
    assert "0.30 [0.30, 0.30]; -0.20 [-0.20, -0.20]" in rows[1]["no budget"]


def test_the_best_rates_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tried(lr: float, seed: int, network: float, lora: float) -> dict[str, Any]:
        found = {
            name: {"harm": [harm] * 4, "utility": 0.5}
            for name, harm in (("hypernetwork", network), ("LoRA", lora))
        }
        return {"cell": {"part": "rates", "lr": lr, "seed": seed}, "found": found}

    _put(tmp_path, [tried(0.1, s, 0.6, 0.2) for s in (0, 1)] + [tried(0.01, 0, 0.4, 0.9)] * 2)
    hypernet.main(["report", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.index("| 0.01 | 2 | 0.40") < said.index("| 0.1 | 2 | 0.60")
    assert "Best against best (hypernetwork at 0.1, LoRA at 0.01): -0.30 [-0.30, -0.30]" in said
