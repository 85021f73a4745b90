"""A suite whose processes are killed again and again, at moments drawn at random, and resumed: does
it end with the results of one that nobody disturbed?

Two runs of one `titer bench`. One is left alone. The other is killed with its workers (the whole
process group, SIGKILL) at moments spread over the work, started again by the same command each
time, and let end. With ``--processes 3`` three of them fill one folder at once, and at such moments
one is killed, ended, or put to sleep for longer than the others wait for it. Every file that holds
a result is then compared byte by byte, trial by trial, and so is the verdict, but for the seconds
that a defence took. Ends with an error where anything differs.
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


_NAP = 4.0
"""Seconds for which a process is put to sleep; the others wait for it half as long."""


def crowd(
    words: Sequence[str], out: Path, *, processes: int, blows: int, work: float, seed: int
) -> Disturbed:
    """Several of ``words`` at once in one folder: at each blow one is killed or ended and started
    again, or put to sleep. All are let end.

    Raises:
        RuntimeError: one of them ended by itself, and not well.
    """
    rng, seen = random.Random(seed), Disturbed()
    running = [start(words, lease=_NAP / 2) for _ in range(processes)]
    for process in running:
        at_work(process, out)
    for _ in range(blows):
        wait = rng.uniform(0, 2 * work / blows)
        time.sleep(wait)
        seen.finished.append(len(list(out.glob("trials/[!.]*/status.json"))))
        seen.after.append(wait)
        place = rng.randrange(processes)
        struck, blow = running[place], rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        if struck.poll() is not None:
            seen.late += 1
            _require_well(struck)
        else:
            os.killpg(struck.pid, blow)
        if blow is signal.SIGSTOP and struck.poll() is None:
            time.sleep(_NAP)
            os.killpg(struck.pid, signal.SIGCONT)
        else:
            struck.communicate()
            running[place] = start(words, lease=_NAP / 2)
    for process in running:
        _require_well(process)
    return seen


def _require_well(process: subprocess.Popen[bytes]) -> None:
    said = process.communicate()[1]
    if process.returncode:
        told = said.decode(errors="replace")[-2000:]
        raise RuntimeError(f"undisturbed, a process ended with {process.returncode}: {told}")


def start(words: Sequence[str], lease: float | None = None) -> subprocess.Popen[bytes]:
    """The command at the head of a process group of its own; ``lease`` is the seconds that it waits
    for another that is silent, and what it says is kept."""
    quiet, kept = subprocess.DEVNULL, subprocess.PIPE if lease else subprocess.DEVNULL
    env = os.environ | ({"TITER_LEASE": str(lease)} if lease else {})
    return subprocess.Popen(words, stdout=quiet, stderr=kept, start_new_session=True, env=env)


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
    bench: Sequence[str], place: Path, *, kills: int, seed: int, processes: int = 1
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
    if processes > 1:
        seen = crowd(words, cut, processes=processes, blows=kills, work=work, seed=seed)
    else:
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
    parser.add_argument("--processes", type=int, default=1, help="that fill one folder at once")
    asked = parser.parse_args(words)
    single_thread()
    bench = [sys.executable, "-m", "titer.cli", "bench", asked.model, "--suite", asked.suite]
    bench += ["--defence", asked.defence, "--cap", str(asked.cap), "--seeds", "1"]
    bench += ["--workers", str(asked.workers), "--quiet"]
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.keep or Path(scratch)
        figures, wrong = measure(
            bench, place, kills=asked.kills, seed=asked.seed, processes=asked.processes
        )
    show(figures, as_json=asked.json)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
