"""An untouched model is asked once, whoever wants to know."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import data_folder, model_folder
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.records import Budget, Trial, part
from titer.trial import baselines
from titer.trial.baselines import Baseline, baseline
from titer.trial.probes import Probe, ask, probes
from titer.worlds.source import load_world


@pytest.fixture
def asked(tmp_path: Path) -> list[Probe]:
    return probes(load_world(str(data_folder(tmp_path / "d"))), "alloy")


@pytest.fixture
def lm(tmp_path: Path) -> LM:
    return LM.load(model_folder(tmp_path / "m"))


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many probes each question to a model held."""
    counted: list[int] = []

    def counting(lm: LM, probes: Any) -> Any:
        counted.append(len(probes))
        return ask(lm, probes)

    monkeypatch.setattr(baselines, "ask", counting)
    return counted


def _trial(domain: str = "alloy") -> Trial:
    attack = part("finetune", catalogue.build("attack", "finetune", {}))
    budget = Budget(steps=1)
    return Trial(
        model="m", world="w", domain=domain, attack=attack, budget=budget, seed=0, suite="s"
    )


def _begin(root: Path, lm: LM, asked: list[Probe]) -> Baseline:
    """As another process would."""
    baselines._HELD.clear()  # pyright: ignore[reportPrivateUsage]
    return baseline(root, lm, _trial(), asked)


def test_asked_once_in_a_run_folder(
    tmp_path: Path, lm: LM, asked: list[Probe], times: list[int]
) -> None:
    first = _begin(tmp_path, lm, asked)
    assert sorted(times) == [1, len(asked)]
    again = _begin(tmp_path, lm, asked)
    assert len(times) == 2, "the second process reads what the first one wrote"
    assert first == again
    fresh = ask(lm, asked)
    assert {name: len(rows) for name, rows in again.records.items()} == {
        name: len(rows) for name, rows in fresh.items()
    }
    for name, rows in fresh.items():
        assert baselines._plain(rows) == again.records[name]  # pyright: ignore[reportPrivateUsage]
    _begin(tmp_path, lm, asked[:1])
    assert len(times) == 4, "other questions are asked"


def test_answers_are_no_use_to_another_model(tmp_path: Path, lm: LM, asked: list[Probe]) -> None:
    begun = _begin(tmp_path, lm, asked)
    assert begun.fits(lm)
    changed = lm.clone()
    with torch.no_grad():
        changed.model.get_output_embeddings().weight.mul_(1.001)
    assert not begun.fits(changed)


def test_a_torn_file_is_written_anew(
    tmp_path: Path, lm: LM, asked: list[Probe], times: list[int]
) -> None:
    whole = _begin(tmp_path, lm, asked)
    (file,) = (tmp_path / ".starts").glob("*.json")
    file.write_text(file.read_text()[:-20])
    assert _begin(tmp_path, lm, asked) == whole
    assert len(times) == 4


def test_of_two_at_once_one_asks(
    tmp_path: Path, lm: LM, asked: list[Probe], times: list[int]
) -> None:
    both = [
        threading.Thread(target=_begin, args=(tmp_path, lm, asked), daemon=True) for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert len(times) == 2
