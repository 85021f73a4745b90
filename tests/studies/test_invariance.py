"""The study from models to the table on a toy, and that the same command again does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies._lab import ORACLE, UNDEFENDED, Lab
from studies._seen import Seen

from studies import invariance
from tests import toy
from titer.core import catalogue
from titer.core.records import Status
from titer.executors.inline import Inline


class Counting(Inline):
    """Counts the jobs it was given."""

    def __init__(self) -> None:
        object.__setattr__(self, "given", [])

    def __call__(self, function: Callable[[Any], Status], jobs: Sequence[Any]) -> Iterator[Any]:
        self.given.append(len(jobs))  # type: ignore[attr-defined]
        return super().__call__(function, jobs)


def toy_world(at: Path) -> str:
    """The toy world, with benign text near the hazard too."""
    folder = toy.data_folder(at)
    lines = (folder / "far.jsonl").read_text(encoding="utf-8").splitlines()
    for name, rows in (("near", lines[::2]), ("far", lines[1::2])):
        (folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    manifest = (folder / "data.yaml").read_text(encoding="utf-8")
    both = "  far: far.jsonl\n  near: {file: near.jsonl, near_hazard: true}\n"
    (folder / "data.yaml").write_text(
        manifest.replace("  far: far.jsonl\n", both), encoding="utf-8"
    )
    return str(folder)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    few = ("rmu", "rmu+sam", "rmu+control: retain")
    kinds = ("relearn T, 1e-3", "related", "unrelated")
    chosen = tuple(one for one in invariance.ADVERSARIES if one.name in kinds)
    monkeypatch.setattr(invariance, "ADVERSARIES", chosen)
    every = invariance.arms(["rmu"])
    monkeypatch.setattr(
        invariance, "arms", lambda bases=("rmu",): [arm for arm in every if arm.name in few]
    )
    return Lab(
        root=tmp_path / "run",
        executor=Counting(),
        source=toy_world(tmp_path / "data"),
        undefended=str(toy.model_folder(tmp_path / "model")),
        oracle=str(toy.model_folder(tmp_path / "oracle", seed=1)),
        cap=1,
        say=lambda line: None,
    )


def test_a_study_end_to_end_and_again(lab: Lab) -> None:
    told: list[Seen] = []
    seen = invariance.run(lab, [0, 1], ["rmu"], told.append)
    assert len(told) == 8
    names = {arm.name for arm in invariance.arms(["rmu"])} | {UNDEFENDED, ORACLE}
    assert {name for name, _, _ in seen.traces} == names
    # The references are attacked with the first seed alone.
    assert len(seen.traces) == (2 * len(names) - 2) * len(invariance.ADVERSARIES)
    assert {trace.status for trace in seen.traces.values()} == {"ok"}
    assert set(seen.cosines[0]) == {"restart", *invariance.compared(["rmu"])}
    first = invariance.report(seen, ["rmu"])
    assert "| rmu+control: retain | —" not in first
    given = lab.executor.given  # type: ignore[attr-defined]
    assert sum(given) > 0
    given.clear()
    again = invariance.run(lab, [0, 1], ["rmu"], told.append)
    assert sum(given) == 0
    assert invariance.report(again, ["rmu"]) == first
    still = invariance.run(replace(lab, still=True), [0, 1, 2], ["rmu"], told.append)
    assert sum(given) == 0
    assert invariance.report(still, ["rmu"]).partition("\n")[2] == first.partition("\n")[2]


def test_a_defence_that_fails_leaves_a_gap_and_the_others_go_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.defences.sam import SAM

    def fail(self: object, lm: object, run: object) -> object:
        raise RuntimeError("no")

    monkeypatch.setattr(SAM, "__call__", fail)
    seen = invariance.run(lab, [0], ["rmu"], lambda seen: None)
    assert seen.after("rmu+sam", "related") == {}
    assert seen.after("rmu", "related")[0].size > 0
    text = invariance.report(seen, ["rmu"])
    assert "| rmu+sam | — | — |" in text
    sam = [line for line in text.splitlines() if line.startswith("| SAM beats ILU")]
    assert sam
    assert all("not run" in line for line in sam)


def test_every_arm_is_named_once_and_weighs_its_environments_alike() -> None:
    arms = invariance.arms()
    assert len({arm.name for arm in arms}) == len(arms)
    for arm in arms:
        catalogue.build("defence", arm.defence, dict(arm.fields))
    for rows in invariance.ENVIRONMENTS.values():
        assert sum(row.get("weight", 1.0) for row in rows) == 1.0
