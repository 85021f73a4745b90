"""Checkpoints of other processes are told here once each, whole, and in the order of their file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from titer.core.jobs import Passed
from titer.run.heard import Listening, heard

pytestmark = pytest.mark.exact

WORKER = """
import sys
from titer.core.jobs import Passed
from titer.run.heard import Note
note = Note(sys.argv[1])
for step in range(40):
    note(Passed(label="S03", subject="m", seed=int(sys.argv[2]), step=step, of=40, loss=1 / 3))
"""


def test_two_processes_are_heard_whole() -> None:
    told: list[Passed] = []
    with heard(told.append) as listening:
        assert listening is not None
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER, listening.note.path, str(seed)])
            for seed in (0, 1)
        ]
        assert [one.wait() for one in workers] == [0, 0]
    for seed in (0, 1):
        mine = [one for one in told if one.seed == seed]
        assert [one.step for one in mine] == list(range(40))
        assert {one.loss for one in mine} == {1 / 3}
    assert len(told) == 80


def test_half_a_line_waits_for_the_rest(tmp_path: Path) -> None:
    told: list[Passed] = []
    path = tmp_path / "passed"
    path.touch()
    listening = Listening(path, told.append)
    one = Passed(label="φ", subject="m", seed=0, step=1, of=None, harm=0.5)
    listening.note(one)
    text = path.read_bytes()
    with path.open("ab") as file:
        file.write(text[:9])
        file.flush()
        listening.catch_up()
        assert told == [one]
        file.write(text[9:])
    listening.catch_up()
    listening.close()
    assert [asdict(each) for each in told] == [asdict(one)] * 2


def test_nobody_listening_costs_nothing() -> None:
    before = set(os.listdir("/tmp"))
    with heard(None) as listening:
        assert listening is None
        assert not [name for name in set(os.listdir("/tmp")) - before if "titer-heard" in name]
