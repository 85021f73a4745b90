"""Writes are whole or absent, and a folder that exists is not a result."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from titer.core.errors import BadInput
from titer.core.records import Budget, Part, Point, Spent, Status, Trace, Trial
from titer.run.store import Store, atomic_folder, require_space, write_atomic


def _trace(seed: int = 0, status: Status = "ok") -> Trace:
    trial = Trial(
        model="m",
        world="w",
        domain="A",
        attack=Part(name="finetune", fields={"lr": 1e-3}),
        budget=Budget(steps=3),
        seed=seed,
        suite="s",
        label="S02",
        subject="base",
    )
    points = tuple(
        Point(spent=Spent(steps=step, tokens=9 * step), scores={"harm": (0.0, 1.0)}, logs={})
        for step in (0, 3)
    )
    return Trace(trial=trial, status=status, points=points, losses=(1.0, 0.5), rates=(1e-3, 1e-3))


def test_a_trace_comes_back_as_it_was(tmp_path: Path) -> None:
    store, trace = Store(tmp_path), _trace()
    store.put(trace, [{"steps": 0, "records": {}}])
    assert store.get(trace.trial.key) == trace
    assert sorted(p.name for p in store.folder(trace.trial.key).iterdir()) == [
        "generations.jsonl",
        "scores.jsonl",
        "status.json",
        "trial.json",
    ]


@pytest.mark.parametrize(
    ("status", "final"), [("ok", True), ("diverged", True), ("failed", False), ("timed-out", False)]
)
def test_only_a_result_is_final(tmp_path: Path, status: Status, final: bool) -> None:
    store, trace = Store(tmp_path), _trace(status=status)
    assert not store.done(trace.trial.key)
    store.folder(trace.trial.key).mkdir(parents=True)
    assert not store.done(trace.trial.key), "an empty folder is not a result"
    store.put(trace)
    assert store.done(trace.trial.key) is final


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def half() -> None:
        with atomic_folder(target) as scratch:
            (scratch / "weights").write_text("some")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_sentence_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="no space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.jsonl"]


def test_too_little_space_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    target = tmp_path / "not" / "there"
    with pytest.raises(BadInput, match="no space left"):
        require_space(target, 2**70)
    assert not (tmp_path / "not").exists()


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(_trace())
    (tmp_path / "trials" / ".abc.torn").mkdir()
    store.sweep()
    assert [p.name for p in (tmp_path / "trials").iterdir()] == [_trace().trial.key]


def test_results_are_one_row_a_probe_and_look_and_a_failure_keeps_its_row(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    store = Store(tmp_path)
    broken = Trace(trial=_trace(seed=1).trial, status="failed", error="Traceback: it broke")
    store.write_results([_trace(), broken])
    rows = pyarrow.read_table(tmp_path / "results.parquet").to_pylist()
    assert len(rows) == 3
    assert {row["mean"] for row in rows} == {0.5, None}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3


def test_the_sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(_trace())
    store.write_sums()
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
