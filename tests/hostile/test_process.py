"""A sample of hostile input through the command as a person starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.exact, pytest.mark.slow]

CASES = {
    "answers without end": ["judge", "refusal", "/dev/zero"],
    "a pipe for a study": ["bench", "{pipe}"],
    "a pipe for a run": ["report", "{pipe}"],
    "a pipe for a key": ["unlock", ".", "--key-file={pipe}", "--out=out"],
    "a pipe for data": ["attack", "S03", "fabula:base", "--data={pipe}", "--out=out"],
    "escapes": ["card", "\x1b[31m"],
    "a number of many digits": ["demo", "--seeds", "9" * 5000],
    "a limit that is none": ["validate", ".", "--load-timeout=nan"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_process_says_one_sentence_and_ends(tmp_path: Path, case: str) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    words = [word.format(pipe=pipe) for word in CASES[case]]
    ended = subprocess.run(
        [sys.executable, "-m", "titer.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "1000"},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, b""), ended.stderr[-500:]
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("titer: ")
    assert len(line) <= 620
    assert line.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.yaml"]
