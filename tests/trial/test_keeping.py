"""Work that was killed goes on to the same bits, or says that it cannot."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from titer.conformance import tiny_data, tiny_lm
from titer.core import catalogue
from titer.core.errors import BadInput
from titer.core.method import Run, Step
from titer.core.records import Budget, Kind
from titer.train.keeping import Keeper

STEPS, EVERY = 6, 2


def made(
    kind: Kind, name: str, folder: Path | None = None, kill: int = 0, **fields: Any
) -> tuple[str, list[float], Keeper | None]:
    def watch(step: Step) -> None:
        if step.number == kill and step.what == "step":
            raise KeyboardInterrupt

    keeper = Keeper(folder, EVERY, "one") if folder else None
    run = Run(
        budget=Budget(steps=STEPS),
        data=tiny_data(),
        seed=3,
        keeper=keeper,
        watch=watch,
        base=lambda: tiny_lm(seed=1),
    )
    out = catalogue.build(kind, name, fields)(tiny_lm(), run)
    return out.digest(), run.losses, keeper


def resumes(kind: Kind, name: str) -> bool:
    return getattr(catalogue.card(kind, name).build, "resumes", True)


def goes_on(kind: Kind, name: str, folder: Path, **fields: Any) -> bool:
    """Whether a run killed after step 5 takes up step 4, and ends as one that nobody killed."""
    whole = made(kind, name, **fields)
    try:
        made(kind, name, folder, kill=STEPS - 1, **fields)
    except KeyboardInterrupt:
        again = made(kind, name, folder, **fields)
        assert again[:2] == whole[:2], name
        assert again[2] is not None
        return again[2].taken_up is not None
    return False


@pytest.mark.parametrize("name", ["npo", "rmu", "undo"])
def test_a_defence_goes_on(name: str, tmp_path: Path) -> None:
    assert goes_on("defence", name, tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"optimiser": "sgd-nesterov"},
        {"optimiser": "schedule-free"},
        {"schedule": "cosine", "warmup": 0.3},
        {"parameters": "lora"},
    ],
    ids=str,
)
def test_a_fine_tune_goes_on(fields: dict[str, Any], tmp_path: Path) -> None:
    assert goes_on("attack", "finetune", tmp_path, **fields)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attack", "defence"])
def test_every_method_goes_on_or_says_that_it_cannot(kind: Kind, tmp_path: Path) -> None:
    taken_up = [
        name
        for name in catalogue.names(kind)
        if resumes(kind, name) and goes_on(kind, name, tmp_path / name)
    ]
    assert len(taken_up) >= (8 if kind == "defence" else 12), "the others train by other loops"


def test_a_method_that_cannot_differs_indeed(tmp_path: Path) -> None:
    """Or else it should say that it can."""
    whole = made("defence", "random_smoothing")
    with pytest.raises(KeyboardInterrupt):
        made("defence", "random_smoothing", tmp_path, kill=5)
    assert made("defence", "random_smoothing", tmp_path)[0] != whole[0]


def test_work_of_other_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        made("defence", "npo", tmp_path, kill=5)
    with pytest.raises(BadInput, match="other settings"):
        Keeper(tmp_path, EVERY, "two")


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        made("defence", "npo", tmp_path, kill=5)
    (tmp_path / "0.training").write_bytes(b"\0" * 100)
    with pytest.raises(BadInput, match="is damaged"):
        made("defence", "npo", tmp_path)


def test_a_file_of_objects_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        made("defence", "npo", tmp_path, kill=5)
    torch.save({"ledger": Path("/")}, tmp_path / "0.training")
    with pytest.raises(BadInput, match="is damaged"):
        made("defence", "npo", tmp_path)


def test_term_waits_for_the_end_of_a_step_and_keeps_it(tmp_path: Path) -> None:
    """Without any --save-every."""
    whole = made("defence", "npo")
    keeper = Keeper(tmp_path, None, "one")

    def watch(step: Step) -> None:
        if step.number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run(budget=Budget(steps=STEPS), data=tiny_data(), seed=3, keeper=keeper, watch=watch)
    with pytest.raises(KeyboardInterrupt), keeper.deferring():
        catalogue.build("defence", "npo", {})(tiny_lm(), run)
    assert run.spent.steps == 3
    assert made("defence", "npo", tmp_path)[:2] == whole[:2]
