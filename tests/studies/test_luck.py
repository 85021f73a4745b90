"""The table of the demo's luck, from verdicts of a real run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import titer
from studies import luck
from tests import toy
from titer.report.load import read_verdict


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("luck")
    titer.bench(
        toy.model_folder(root / "llama"),
        data=str(toy.data_folder(root / "data")),
        out=root / "run",
        defences=["npo"],
        cap=1,
        seeds=1,
        workers=1,
    )
    return read_verdict(root / "run").to_json()


def _moved(verdict: dict[str, Any], by: float) -> dict[str, Any]:
    found = copy.deepcopy(verdict)
    for model in found["models"]:
        luck.figure(model, luck.FIGURES["harm before"])["value"] += by
    return found


def test_a_figure_within_the_firsts_interval_is_counted(verdict: dict[str, Any]) -> None:
    own = luck.figure(verdict["models"][0], luck.FIGURES["harm before"])
    far = own["high"] - own["value"] + 0.1
    seeds = {"one": verdict, "far": _moved(verdict, far)}
    told = luck.table(seeds, {"near": _moved(verdict, 0.0)})
    rows = [line for line in told.splitlines() if "harm before" in line]
    assert len(rows) == len(verdict["models"])
    first, other = own["value"], own["value"] + far
    cells = [
        f"{first:.2f} [{own['low']:.2f}, {own['high']:.2f}]",
        f"{(first + other) / 2:.2f} ({first:.2f} to {other:.2f})",
        f"{other:.2f}",
        f"{first:.2f}",
        "1 of 2",
    ]
    assert rows[0].strip("| ").split(" | ")[2:] == cells


def test_every_adversary_is_named_once_for_each_model(verdict: dict[str, Any]) -> None:
    lines = luck.validity({"one": verdict}).splitlines()[2:]
    assert len(lines) == len(verdict["models"])
    for line, model in zip(lines, verdict["models"], strict=True):
        for row in model["attacks"]:
            assert line.count(row["row"]) == 1
