"""The study of label errors: what it plans, that it goes on where it stopped, what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies.sealed_labels import Cell

from studies import sealed_labels as study
from titer.worlds import organisms
from titer.worlds._fabula_recipe import Shape, Training

SHAPE = Shape(
    layers=1,
    width=16,
    heads=2,
    hidden=32,
    scale=0.08,
    words=organisms.SIZES["nano"].words,
    pretraining=Training(steps=6, lr=1e-2, warmup=1),
    aligning=Training(steps=1, lr=1e-3),
)


def test_each_seed_has_its_references_and_every_arm_and_share() -> None:
    found = study.cells([0.0, 0.1], range(2))
    assert len(found) == 2 * (3 + 1 + 2)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    kinds = {(cell.arm, cell.share) for cell in found}
    assert kinds == {
        *((name, 0.0) for name in ("oracle", "base", "sealed", "unlabelled")),
        ("unlabelled", 0.1),
        ("called-public", 0.1),
    }


def test_arms_say_how_labels_err() -> None:
    by_arm = {
        arm: Cell(arm=arm, share=0.1, seed=0, certain=0.4).sealing
        for arm in ("oracle", *study.ARMS)
    }
    plain = replace(organisms.SEALING, closing=0.0, replay=0.0)
    assert by_arm["oracle"] is None
    assert by_arm["called-public"] == replace(plain, mislabelled=0.1)
    assert by_arm["unlabelled"] == replace(plain, unlabelled=0.1, certain=0.4)


def test_a_cell_s_name_hashes_what_decides_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(arm="unlabelled", share=0.1, seed=0)
    sealed = replace(cell, arm="sealed")
    names = {
        cell.key("nano"),
        replace(cell, share=0.2).key("nano"),
        replace(cell, arm="called-public").key("nano"),
        replace(cell, seed=1).key("nano"),
        replace(cell, certain=0.5).key("nano"),
        cell.key("small"),
        sealed.key("nano"),
    }
    monkeypatch.setattr(organisms, "SEALING", replace(organisms.SEALING, rank=1))
    names |= {cell.key("nano"), sealed.key("nano")}
    monkeypatch.setattr(organisms, "RECIPE_VERSION", -1)
    assert len(names | {cell.key("nano"), sealed.key("nano")}) == 11


def test_it_goes_on_where_it_stopped_and_prints_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(organisms.SIZES, "nano", SHAPE)
    monkeypatch.setenv("TITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "LOOKS", (0, 1))
    words = ["--out", str(tmp_path / "out"), "--seeds", "1", "--shares", "0.5"]
    grow, grown = study.grow, list[str]()

    def stopped(cell: Cell, size: str) -> Any:
        if len(grown) == 3:
            raise KeyboardInterrupt
        grown.append(cell.arm)
        return grow(cell, size)

    monkeypatch.setattr(study, "grow", stopped)
    with pytest.raises(KeyboardInterrupt):
        study.main(words)
    assert grown == list(study.ORGANISMS)
    assert len(list((tmp_path / "out").iterdir())) == 3
    monkeypatch.setattr(
        study, "grow", lambda cell, size: grown.append(cell.arm) or grow(cell, size)
    )
    study.main(words)
    assert grown == [*study.ORGANISMS, *study.ARMS]
    first = capsys.readouterr().out
    study.main(words)
    assert len(grown) == 5
    assert capsys.readouterr().out == first
    study.main([*words, "--json"])
    lines = json.loads(capsys.readouterr().out)
    assert [line["arm"] for line in lines] == grown
    looks = {"V after 0", "V after 1"}
    assert set(lines[2]) == {"arm", "share", "certain", "seeds", "benign", *looks}


def test_figures_are_means_over_seeds_with_intervals() -> None:
    def found(right: int) -> dict[str, Any]:
        scores = [1.0] * right + [0.0] * (10 - right)
        return {"benign": right / 10, "looks": {str(n): scores for n in study.LOOKS}}

    seeds = [Cell(arm="oracle", share=0.0, seed=seed) for seed in (0, 1)]
    (line,) = study.figures(list(zip(seeds, (found(2), found(6)), strict=True)))
    value, low, high = line["V after 20"]
    assert (line["seeds"], line["benign"], value) == (2, 0.2, pytest.approx(0.4))
    assert 0 <= low < 0.4 < high <= 1
    said = study.table([line])
    assert "0.40 [" in said
    assert said.splitlines()[0].split()[0] == "arm"
