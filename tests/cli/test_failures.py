"""Work that came to nothing says so: in one sentence, with the exit code of its kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from titer.core.errors import BadInput

pytestmark = pytest.mark.exact


def words(own: Path, out: Path, *more: str) -> list[str]:
    given = ["attack", "S02", str(own / "llama"), "--data", str(own / "data"), "--out", str(out)]
    return [*given, "--steps", "2", "--quiet", *more]


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The attack raises; all around it is as it is."""
    from titer.attacks.finetune import Finetune

    def raises(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Finetune, "__call__", raises)


@pytest.mark.parametrize("more", [(), ("--save",), ("--json",), ("--save", "--json")])
@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError("matrix is singular"), 1), (BadInput("the file is of another world."), 2)],
)
def test_a_failed_attack_is_no_success(
    titer: Run, own: Path, tmp_path: Path, monkeypatch: Any, error: Exception, code: int, more: Any
) -> None:
    failing(monkeypatch, error)
    got, out, err = titer(*words(own, tmp_path / "out", *more))
    assert got == code
    assert str(error) in err
    assert ("no model was saved" if "--save" in more else "nothing was saved") in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "model").exists()
    assert json.loads((tmp_path / "out" / "trace.json").read_text())["status"] == "failed"
    if "--json" in more:
        assert json.loads(out)["status"] == "failed"


def test_a_model_of_an_earlier_attack_is_not_taken_for_this_one(
    titer: Run, own: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    assert titer(*words(own, tmp_path / "out", "--save"))[0] == 0
    failing(monkeypatch, RuntimeError("no"))
    assert "is of an earlier attack" in titer(*words(own, tmp_path / "out", "--save"))[2]


def test_an_interrupt_is_one_sentence(titer: Run, own: Path, tmp_path: Path, monkeypatch: Any):
    def stops(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("titer.load", stops)
    code, _, err = titer(*words(own, tmp_path / "out"))
    assert code == 130
    assert err == "titer: stopped; the same command goes on where this one ended.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_one_sentence(number: int, code: int) -> None:
    """And nothing is said of what the program left lying about."""
    waits = (
        "import sys, time, titer.cli.exchange as e, titer.cli.app as a\n"
        "def wait(target):\n    print('ready', flush=True); time.sleep(60)\n"
        "e._whichever = wait\n"
        "sys.argv = ['titer', 'validate', '/nowhere']\na.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stderr
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.05)
        os.kill(child.pid, number)
        assert child.wait(30) == code
        said = child.stderr.read()
    assert said == "titer: stopped; the same command goes on where this one ended.\n"
