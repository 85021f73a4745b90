"""A study that is killed again and again, at moments drawn at random, ends with the same results.

``TITER_KILLS=20 pytest tests/grid/test_interrupted.py`` kills it twenty times.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import toy
from titer.grid.validate import findings

KILLS = int(os.environ.get("TITER_KILLS", "3"))
PLACES = {"env.json", "config.yaml"}
"""They hold the machine and the command, and so the folder's name."""


def _words(place: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "titer.cli", "bench", str(place / "llama")]
    words += ["--data", str(place / "data"), "--suite", "quick", "--defence", "npo"]
    return [*words, "--cap", "3", "--seeds", "1", "--workers", "1", "--quiet", "--out", str(out)]


def _results(root: Path) -> dict[str, str]:
    """Hashes of all that a study found: plans, results, scores and what was said, by file."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        kept = path.suffix in (".jsonl", ".safetensors") or name in (
            "plan.json",
            "calibration.json",
        )
        if path.is_file() and kept and not path.name.startswith("."):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _verdict(root: Path) -> dict[str, object]:
    raw = json.loads((root / "report" / "verdict.json").read_text())
    raw["reproduce"].pop("command")
    for model in raw["models"]:  # how long a defence took is no result
        model["cost"].pop("seconds", None)
    return raw


def _at_work(process: subprocess.Popen[bytes], out: Path) -> float:
    """Wait until the command writes its first file; returns the seconds that took."""
    started, clock = time.time(), time.monotonic()
    while process.poll() is None:
        if any(_written(path) > started for path in out.rglob("*")):
            break
        time.sleep(0.02)
    return time.monotonic() - clock


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # scratch that has just been renamed
        return 0.0


def _start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_results(tmp_path: Path) -> None:
    toy.model_folder(tmp_path / "llama")
    toy.data_folder(tmp_path / "data")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process, clock = _start(_words(tmp_path, whole)), time.monotonic()
    waited = _at_work(process, whole)
    assert process.wait() == 0
    work = time.monotonic() - clock - waited
    rng, seen = random.Random(0), list[int]()
    while len(seen) < KILLS:
        before = len(list(cut.glob("trials/[!.]*/status.json")))
        process = _start(_words(tmp_path, cut))
        _at_work(process, cut)
        # So long that the kills are spread over the whole of the work.
        time.sleep(rng.uniform(0, 1.6 * work / KILLS))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            seen.append(before)
        elif cut.is_dir():  # too late: part of the work is undone, so that there is more to do
            for path in sorted(cut.glob("trials/[!.]*"))[:: rng.randrange(1, 4)]:
                (path / "status.json").unlink()
        process.wait()
    done = subprocess.run(_words(tmp_path, cut), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(f"killed {len(seen)} times; finished trials before each start: {seen}")
    assert _results(cut) == _results(whole)
    assert _verdict(cut) == _verdict(whole)
    assert not [one for one in findings(cut) if one.kind == "fault"]
    assert not list(cut.rglob(".*.*")), "scratch was left behind"
