"""A suite whose processes are killed again and again, at moments drawn at random, and resumed: does
it end with the results of one that nobody disturbed?

Two runs of one `titer bench`. One is left alone. The other is killed with its workers (the whole
process group, SIGKILL) at moments spread over the work, started again by the same command each
time, and let end. Every file that holds a result is then compared byte by byte, trial by trial,
and so is the verdict, but for the seconds that a defence took. Ends with an error where anything
differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._timing import Figure, absolute, show, single_thread

__all__ = ["Disturbed", "differences", "disturb", "main", "measure", "results", "verdict"]

_KEPT = (".jsonl", ".safetensors")
_KEPT_BY_NAME = ("plan.json", "calibration.json")


@dataclass(kw_only=True)
class Disturbed:
    """What was done to a run: the finished trials at each start that was killed, the seconds from
    its first file to the kill, and the starts that ended before they could be killed."""

    finished: list[int] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    late: int = 0


def results(root: Path) -> dict[str, str]:
    """Hashes of all that a study found: plans, results, scores and what was said, by file."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        kept = path.suffix in _KEPT or name in _KEPT_BY_NAME
        if path.is_file() and kept and not path.name.startswith("."):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def verdict(root: Path) -> dict[str, object]:
    """The verdict without the command and without the seconds that a defence took."""
    raw = json.loads((root / "report" / "verdict.json").read_text(encoding="utf-8"))
    raw["reproduce"].pop("command")
    for model in raw["models"]:
        model["cost"].pop("seconds", None)
    return raw


def differences(whole: Path, cut: Path) -> list[str]:
    """What the two folders do not share: files, their bytes, verdicts, or scratch left behind."""
    one, other = results(whole), results(cut)
    found = [f"only in {whole.name}: {name}" for name in one.keys() - other.keys()]
    found += [f"only in {cut.name}: {name}" for name in other.keys() - one.keys()]
    found += [f"differs: {name}" for name in one.keys() & other.keys() if one[name] != other[name]]
    if verdict(whole) != verdict(cut):
        found.append("differs: the verdict")
    return sorted(found) + [f"left behind: {path.name}" for path in cut.rglob(".*.*")]


def disturb(words: Sequence[str], out: Path, *, kills: int, work: float, seed: int) -> Disturbed:
    """Start ``words`` and kill its process group, ``kills`` times; results stay in ``out``.

    ``work`` is the seconds that an undisturbed run takes from its first file on: kills are drawn so
    that they are spread over the whole of it, and as a start that finished no trial has to do its
    work again, the next may go on for half as long again. Where the run ends first, part of its
    trials is forgotten so that there is work again.
    """
    rng, seen, patience = random.Random(seed), Disturbed(), 1.0
    while len(seen.finished) < kills:
        before = len(list(out.glob("trials/[!.]*/status.json")))
        patience = 1.5 * patience if seen.finished[-1:] == [before] else 1.0
        process = start(words)
        at_work(process, out)
        wait = rng.uniform(0, 1.6 * patience * work / kills)
        time.sleep(wait)
        if process.poll() is None:
            _kill_group(process)
            seen.finished.append(before)
            seen.after.append(wait)
        else:
            seen.late += 1
            for path in sorted(out.glob("trials/[!.]*"))[:: rng.randrange(1, 4)]:
                (path / "status.json").unlink()
    return seen


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """The command at the head of a process group of its own."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)


def at_work(process: subprocess.Popen[bytes], out: Path) -> float:
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


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def measure(
    bench: Sequence[str], place: Path, *, kills: int, seed: int
) -> tuple[list[Figure], list[str]]:
    """The figures, and what differs; ``bench`` is the command without its ``--out``.

    Raises:
        RuntimeError: an undisturbed run failed.
    """
    whole, cut = place / "whole", place / "cut"
    clock = time.perf_counter()
    process = start([*bench, "--out", str(whole)])
    waited = at_work(process, whole)
    if process.wait():
        raise RuntimeError(f"{' '.join(bench)} ended with {process.returncode}")
    work = time.perf_counter() - clock - waited
    words = [*bench, "--out", str(cut)]
    seen = disturb(words, cut, kills=kills, work=work, seed=seed)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the last start ended with {done.returncode}: {done.stderr[-2000:]}")
    wrong = differences(whole, cut)
    print(f"finished trials before each start: {seen.finished}", file=sys.stderr)
    print(f"seconds of work before each kill: {[round(t, 1) for t in seen.after]}", file=sys.stderr)
    counted = {
        "kills": len(seen.finished),
        "starts that ended too early to be killed": seen.late,
        "files compared": len(results(whole)),
        "trials": len(list(whole.glob("trials/[!.]*/status.json"))),
    }
    figures = [absolute(what, "count", [float(n)]) for what, n in counted.items()]
    figures.append(absolute("differences", "count", [float(len(wrong))], "goal: 0"))
    figures.append(absolute("undisturbed, from the first file", "s", [work]))
    return figures, wrong


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line.

    Raises:
        SystemExit: something differs.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--model", default="fabula:base")
    parser.add_argument("--defence", default="npo")
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--cap", type=int, default=10, help="bound on every attack's steps")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="leave both runs here")
    asked = parser.parse_args(words)
    single_thread()
    bench = [sys.executable, "-m", "titer.cli", "bench", asked.model, "--suite", asked.suite]
    bench += ["--defence", asked.defence, "--cap", str(asked.cap), "--seeds", "1"]
    bench += ["--workers", str(asked.workers), "--quiet"]
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.keep or Path(scratch)
        figures, wrong = measure(bench, place, kills=asked.kills, seed=asked.seed)
    show(figures, as_json=asked.json)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
