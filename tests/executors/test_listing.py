"""One file more is one executor more, chosen by its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import titer
import titer.executors
from titer.cli.app import app
from titer.core.errors import BadInput, UnknownName
from titer.core.records import Status
from titer.executors.listing import DEFAULT, listed, start

EXECUTOR = '''
"""Runs jobs from the last to the first, and counts them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from titer.core.jobs import Ended

SAYS = "the last job first"
DONE = []


@contextmanager
def start(workers, timeout):
    def run(function, jobs):
        for job in reversed(jobs):
            DONE.append((job, workers, timeout))
            yield Ended(job=job, status=function(job))

    yield run
'''


@pytest.fixture
def backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "backwards.py").write_text(EXECUTOR)
    monkeypatch.setattr(titer.executors, "__path__", [*titer.executors.__path__, str(tmp_path)])
    yield
    sys.modules.pop("titer.executors.backwards", None)


def _fine(_job: str) -> Status:
    return "ok"


@pytest.mark.usefixtures("backwards")
def test_an_executor_in_another_folder_is_chosen_by_name() -> None:
    assert listed()["backwards"] == "the last job first"
    with start("backwards", 3, 5.0) as running:
        ended = [one.job for one in running(_fine, ["a", "b"])]
    assert ended == ["b", "a"]
    assert sys.modules["titer.executors.backwards"].DONE == [("b", 3, 5.0), ("a", 3, 5.0)]


def test_each_file_is_the_executor_of_its_name() -> None:
    assert set(listed()) == {"inline", "processes"}
    assert DEFAULT in listed()
    assert all(listed().values())


def test_inline_takes_one_worker() -> None:
    with start("inline", None, 1.0) as running:
        assert [one.status for one in running(_fine, ["a"])] == ["ok"]
    with pytest.raises(BadInput, match="--workers 4: the executor inline runs one job at a time"):
        start("inline", 4, 1.0)
    with pytest.raises(BadInput, match="give 1 or more"):
        start("processes", 0, 1.0)


def test_another_name_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no executor named 'proceses'.*processes"):
        titer.bench("fabula:base", executor="proceses", out=tmp_path / "run")
    words = ["bench", "fabula:base", "--executor", "slurm", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UnknownName), "the command line says it and exits with 2"
    assert "There are inline, processes." in str(done.exception)
    assert not (tmp_path / "run").exists()
