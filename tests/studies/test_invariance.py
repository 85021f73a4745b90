"""The study from models to the table on a toy, and that the same command again does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from studies._lab import ORACLE, UNDEFENDED, Lab
from studies._seen import Seen

from studies import invariance
from tests import toy
from titer.core.records import Status
from titer.executors.inline import Inline
from titer.grid.runner import Ended


class Counting(Inline):
    """Counts the jobs it was given."""

    def __init__(self) -> None:
        object.__setattr__(self, "given", [])

    def __call__(self, function: Callable[[Any], Status], jobs: Sequence[Any]) -> Iterator[Any]:
        self.given.append(len(jobs))  # type: ignore[attr-defined]
        return super().__call__(function, jobs)


def _world(at: Path) -> str:
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
def lab(tmp_path: Path) -> Lab:
    return Lab(
        root=tmp_path / "run",
        executor=Counting(),
        source=_world(tmp_path / "data"),
        undefended=str(toy.model_folder(tmp_path / "model")),
        oracle=str(toy.model_folder(tmp_path / "oracle", seed=1)),
        cap=2,
        say=lambda line: None,
    )


def test_a_study_end_to_end_and_again(lab: Lab) -> None:
    told: list[Seen] = []
    seen = invariance.run(lab, [0, 1], ["rmu"], told.append)
    assert len(told) == 6
    names = {arm.name for arm in invariance.arms(["rmu"])} | {UNDEFENDED, ORACLE}
    assert {name for name, _, _ in seen.traces} == names
    assert len(seen.traces) == 2 * len(names) * len(invariance.ADVERSARIES)
    assert {trace.status for trace in seen.traces.values()} == {"ok"}
    assert set(seen.cosines[0]) == {"restart", *invariance.compared(["rmu"])}
    first = invariance.report(seen, ["rmu"])
    assert "not run" not in first
    given = lab.executor.given  # type: ignore[attr-defined]
    assert sum(given) > 0
    given.clear()
    again = invariance.run(lab, [0, 1], ["rmu"], told.append)
    assert sum(given) == 0
    assert invariance.report(again, ["rmu"]) == first


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
    for rows in invariance.ENVIRONMENTS.values():
        assert sum(row.get("weight", 1.0) for row in rows) == 1.0


def test_the_pool_is_not_needed_for_one_worker() -> None:
    from studies._lab import executing

    with executing(1) as one:
        assert isinstance(one, Inline)
    assert Ended.__name__ == "Ended"
