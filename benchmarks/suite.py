"""A whole suite on one model, wall clock: a serial Trainer loop against titer's processes.

The undefended organism and the oracle, calibration and benign tasks included, through
`titer bench`'s own planner into a new folder each time; organisms are grown before the clock
starts. The serial side trains every adversary by itself with the Hugging Face Trainer (and PEFT)
in one process that may use as many threads as titer has processes, and asks and judges as titer
does, so only what the Trainer is for differs; what it cannot train, titer trains one at a time.
Goals at nano: 5 times as fast on two cores, 8 times on four.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    arguments,
    children,
    gathered,
    show,
    watched,
)

_GOALS = {1: "", 2: "goal: 5", 4: "goal: 8"}


def serial(model: str, suite: str, cap: int | None, out: Path, threads: int) -> dict[str, float]:
    """The same study by the Trainer; returns seconds and how many fine-tunes it took.

    Raises:
        RuntimeError: a trial failed, so that the time says nothing.
    """
    from benchmarks._serial import Serially
    from titer.core.study import Study
    from titer.plan.request import assemble, check
    from titer.run.runner import run_study

    request = Study(models=(model,), suite=suite, out=out, seeds=1, cap=cap)
    study, _ = assemble(check(request))
    executor = Serially(threads)
    began = time.perf_counter()
    traces = run_study(study, out, executor)
    wall = time.perf_counter() - began
    if failed := [trace for trace in traces if trace.status == "failed"]:
        raise RuntimeError(f"{len(failed)} trials failed: {failed[0].error[-2000:]}")
    return {"wall": wall, "trained": executor.trained, "trials": len(traces)}


def _script(words: Sequence[str]) -> Sample:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    began, before = time.perf_counter(), children()
    done = subprocess.run(gathered(words), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Sample(wall=time.perf_counter() - began, cpu=children() - before)


def measure(
    *, model: str, suite: str, cap: int | None, rounds: int, workers: Sequence[int]
) -> list[Figure]:
    """Each round is one serial study a thread count and one of titer's a worker count."""
    from titer.worlds.organisms import organism, parse

    for name in (model, "fabula:oracle"):
        organism(*parse(name))
    capped = [] if cap is None else ["--cap", str(cap)]
    taken: dict[str, list[Sample]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            for count in workers:
                peer = [sys.executable, "-m", "benchmarks.suite", "--model", model, "--suite"]
                peer += [suite, *capped, "--serial", str(root / f"serial {count}")]
                bench = [sys.executable, "-m", "titer.cli", "bench", model, "--suite", suite]
                bench += [*capped, "--seeds", "1", "--quiet", "--workers", str(count)]
                for name, words in (
                    (f"Trainer, {count} thread(s)", [*peer, "--workers", str(count)]),
                    (f"titer, {count} process(es)", [*bench, "--out", str(root / str(count))]),
                ):
                    taken.setdefault(name, []).append(_script(words))
    label = f"{suite} on {model}" + ("" if cap is None else f" --cap {cap}")
    figures = [
        absolute(f"{label}: {name}, {clock}", "s", [getattr(one, clock) for one in samples])
        for name, samples in taken.items()
        for clock in ("wall", "cpu")
    ]
    for count in workers:
        theirs, ours = taken[f"Trainer, {count} thread(s)"], taken[f"titer, {count} process(es)"]
        for clock in ("wall", "cpu"):
            times = [
                getattr(one, clock) / getattr(two, clock)
                for one, two in zip(theirs, ours, strict=True)
            ]
            goal = _GOALS.get(count, "") if clock == "wall" else ""
            against = f"serial Trainer loop, {count} thread(s)" + (f"; {goal}" if goal else "")
            figures.append(
                absolute(f"{label}: {count} process(es), {clock}", "ratio", times, against)
            )
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--model", default="fabula:base")
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--cap", type=int, help="bound on every attack's steps")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--serial", type=Path, metavar="OUT", help="only the Trainer's side, here")
    asked = parser.parse_args(words)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if asked.serial:
        found = serial(asked.model, asked.suite, asked.cap, asked.serial, asked.workers[0])
        print(json.dumps(found))
        return
    with watched():
        figures = measure(
            model=asked.model,
            suite=asked.suite,
            cap=asked.cap,
            rounds=asked.rounds,
            workers=asked.workers,
        )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
