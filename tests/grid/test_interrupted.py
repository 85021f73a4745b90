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
    return raw


def _kill_at_random(words: Sequence[str], rng: random.Random, longest: float) -> bool:
    """Start the command and kill it after a random time; False where it had ended by then."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=rng.uniform(0.2, 0.8) * longest)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_results(tmp_path: Path) -> None:
    toy.model_folder(tmp_path / "llama")
    toy.data_folder(tmp_path / "data")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    started = time.monotonic()
    subprocess.run(_words(tmp_path, whole), check=True, capture_output=True)
    longest = time.monotonic() - started
    rng, kills = random.Random(0), 0
    seen: list[int] = []
    while kills < KILLS:
        done = len(list(cut.glob("trials/[!.]*/status.json")))
        seen.append(done)
        # Work that is done stays done, so a kill must come sooner each time; one that came too
        # late found a whole study, which is taken apart so that the next has something to do.
        if not _kill_at_random(_words(tmp_path, cut), rng, longest):
            for path in sorted(cut.glob("trials/[!.]*"))[:: rng.randrange(1, 4)]:
                (path / "status.json").unlink()
            continue
        kills += 1
    done = subprocess.run(_words(tmp_path, cut), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(f"killed {kills} times; finished trials before each start: {seen}")
    assert _results(cut) == _results(whole)
    assert _verdict(cut) == _verdict(whole)
    assert not [one for one in findings(cut) if one.kind == "fault"]
    assert not list(cut.rglob(".*.*")), "scratch was left behind"
