"""Timing that a busy machine spoils as little as possible.

All alternatives of a benchmark run in one go, in rounds; the order turns round every other time, so
that a drift of the machine meets all of them alike. A ratio is taken within a round, and what is
reported is the median of those ratios with an interval.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

__all__ = [
    "Figure",
    "Sample",
    "absolute",
    "arguments",
    "children",
    "gathered",
    "interleave",
    "interval",
    "measured",
    "median",
    "ratio",
    "show",
    "single_thread",
    "watched",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One timing in seconds: ``wall`` on the clock, ``cpu`` of the process (or its children)."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a benchmark.

    ``low`` and ``high`` are the interval of :func:`interval`. ``against`` names what a ratio is
    taken against, or the goal that an absolute figure is held to.
    """

    what: str
    unit: str
    median: float
    low: float
    high: float
    against: str


Round = Mapping[str, Sample]


def single_thread() -> None:
    """One thread for torch and its libraries, here and in what is started from here."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def measured(work: Callable[[], object]) -> Sample:
    """Time one call in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Sample(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


def children() -> float:
    """CPU seconds of processes started here that have ended, those that they started included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_REAPER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
command = subprocess.Popen(sys.argv[1:])
code = 1
while True:
    try:
        ended, status = os.waitpid(-1, 0)
    except ChildProcessError:
        sys.exit(code)
    if ended == command.pid:
        code = os.waitstatus_to_exitcode(status)
"""


def gathered(words: Sequence[str]) -> list[str]:
    """The same command, waited for with all that it started, so that :func:`children` counts them.

    The server that workers are forked from ends a moment after the command, and nobody waits for
    it; its seconds, and those of all workers, would be lost.
    """
    if sys.platform != "linux":
        return list(words)
    return [sys.executable, "-S", "-c", _REAPER, *words]


def interleave(alternatives: Mapping[str, Callable[[], Sample]], rounds: int) -> list[Round]:
    """Take every alternative once a round; every other round runs in the opposite order."""
    if rounds < 1:
        raise ValueError(f"rounds={rounds}; take at least one.")
    found: list[Round] = []
    for number in range(rounds):
        order = list(alternatives) if number % 2 == 0 else list(alternatives)[::-1]
        taken = {name: alternatives[name]() for name in order}
        found.append({name: taken[name] for name in alternatives})
    return found


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ranked = sorted(values)
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Bounds of the median by order statistics, whatever the distribution.

    The k-th smallest and the k-th largest value enclose the median with probability
    1 − 2 P(Binomial(n, ½) < k); k is the largest that keeps this at ``level`` or above. With five
    values or fewer no k does, and the bounds are the smallest and the largest value.
    """
    ranked, count = sorted(values), len(values)
    tail, kept = 0.0, 1
    for k in range(1, count // 2 + 1):
        tail += math.comb(count, k - 1) / 2**count
        if 1 - 2 * tail < level:
            break
        kept = k
    return ranked[kept - 1], ranked[count - kept]


def _figure(what: str, unit: str, values: Sequence[float], against: str) -> Figure:
    low, high = interval(values)
    return Figure(what=what, unit=unit, median=median(values), low=low, high=high, against=against)


def absolute(
    what: str, unit: str, values: Sequence[float], against: str = "", *, per: float = 1.0
) -> Figure:
    """A figure in units of its own; ``per`` divides each value."""
    return _figure(what, unit, [value / per for value in values], against)


def ratio(what: str, rounds: Sequence[Round], top: str, bottom: str, clock: str) -> Figure:
    """How many times as long ``top`` takes as ``bottom``, by ``wall`` or ``cpu`` clock."""
    values = [getattr(taken[top], clock) / getattr(taken[bottom], clock) for taken in rounds]
    return _figure(f"{what}, {clock}", "ratio", values, bottom)


@contextmanager
def watched() -> Iterator[None]:
    """Say on standard error how busy the machine was with other work meanwhile."""
    began, own, idle = time.perf_counter(), _own(), _busy()
    yield
    passed = max(1e-9, time.perf_counter() - began)
    others = max(0.0, (_busy() - idle) - (_own() - own)) / passed
    cores = len(os.sched_getaffinity(0))
    print(
        f"{passed:.0f} s; other work took {others:.1f} of {cores} cores, "
        f"load average {os.getloadavg()[0]:.1f}",
        file=sys.stderr,
    )


def _own() -> float:
    return sum(os.times()[:4])


def _busy() -> float:
    """Seconds that all cores together have worked since the machine started."""
    try:
        with open("/proc/stat", encoding="ascii") as lines:
            ticks = [int(word) for word in lines.readline().split()[1:9]]
    except OSError:
        return 0.0
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def arguments(about: str, *, rounds: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds of all alternatives")
    return parser


def show(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print a JSON list of :class:`Figure`, or a table for people."""
    if as_json:
        print(json.dumps([asdict(figure) for figure in figures], indent=1))
        return
    lines = [("what", "median", "interval", "unit", "against")]
    lines += [
        (f.what, f"{f.median:.3g}", f"{f.low:.3g} to {f.high:.3g}", f.unit, f.against)
        for f in figures
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
