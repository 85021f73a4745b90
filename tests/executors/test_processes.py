"""A crash or a hang costs one job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from titer.core.errors import BadInput
from titer.core.records import Status
from titer.executors.inline import Inline
from titer.executors.processes import _PRELOADED, Processes, _context


def _act(what: str) -> Status:
    if what == "crash":
        os._exit(7)
    if what == "hang":
        time.sleep(600)
    if what == "raise":
        raise ValueError("a fault of its own")
    if what == "refuse":
        raise BadInput("the model is broken.")
    if what == "threads":
        import torch

        assert torch.get_num_threads() == 1
    if what == "loaded":
        assert set(_PRELOADED) <= set(sys.modules)
    if what.startswith("FLAG="):
        assert os.environ.get("FLAG", "") == what.removeprefix("FLAG=")
    return "ok"


def test_neighbours_of_a_crash_a_hang_and_a_fault_go_on() -> None:
    jobs = ["threads", "crash", "raise", "hang", "fine"]
    with Processes(2, timeout=30.0) as pool:
        pool.timeout = 60.0
        list(pool(_act, ["fine"]))
        pool.timeout = 6.0
        ended = {end.job: end for end in pool(_act, jobs)}
    assert {job: ended[job].status for job in jobs} == {
        "threads": "ok",
        "crash": "failed",
        "raise": "failed",
        "hang": "timed-out",
        "fine": "ok",
    }
    assert "exit code 7" in ended["crash"].error
    assert "a fault of its own" in ended["raise"].error
    assert "longer than 6 seconds" in ended["hang"].error


@pytest.mark.skipif(sys.platform != "linux", reason="workers are spawned there")
def test_workers_start_with_their_imports_done_and_the_environment_of_their_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the server they are forked from is as old as the first pool."""
    monkeypatch.delenv("TITER_DEVICE", raising=False)
    for flag in ("one", ""):
        if flag:
            monkeypatch.setenv("FLAG", flag)
        else:
            monkeypatch.delenv("FLAG")
        with Processes(1, timeout=60.0) as pool:
            ended = list(pool(_act, ["loaded", f"FLAG={flag}"]))
        assert [end.error for end in ended] == ["", ""]


def test_what_would_hold_a_device_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, way in (("cuda", "spawn"), ("cpu", "forkserver")):
        monkeypatch.setenv("TITER_DEVICE", device)
        assert _context().get_start_method() == (way if sys.platform == "linux" else "spawn")


def test_bad_input_in_a_worker_stays_a_sentence() -> None:
    with (
        pytest.raises(BadInput, match="the model is broken"),
        Processes(1, timeout=60.0) as pool,
    ):
        list(pool(_act, ["refuse"]))


def test_inline_records_a_fault_and_goes_on() -> None:
    ended = list(Inline()(_act, ["raise", "fine"]))
    assert [end.status for end in ended] == ["failed", "ok"]
    assert "a fault of its own" in ended[0].error


def test_no_workers_is_refused() -> None:
    with pytest.raises(BadInput, match="give 1 or more"):
        Processes(0)


_SCRIPT = """
import subprocess
import sys
print("the script runs")
sys.path.insert(0, {root!r})
from tests.executors.test_processes import _act
from titer.executors.processes import Processes
with Processes(1, timeout=100.0) as pool:
    print([end.status for end in pool(_act, ["fine"])])
"""


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_plain_script_starts_workers_and_runs_once(device: str, tmp_path: Path) -> None:
    """On another device than the CPU workers are spawned."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(root=str(Path(__file__).parents[2])))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "TITER_DEVICE": device},
    )
    assert done.stdout.splitlines() == ["the script runs", "['ok']"], done.stderr
