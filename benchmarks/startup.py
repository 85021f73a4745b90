"""How long a user waits for `titer --help`, `titer list attacks` and `import titer`.

Each is a process of its own; a bare Python interpreter is timed beside them. Goal: under 0.5 s, and
0.1 s for the import.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    arguments,
    children,
    interleave,
    ratio,
    show,
    single_thread,
    watched,
)

_GOALS = {
    "titer --help": "goal: under 0.5",
    "titer list attacks": "goal: under 0.5",
    "import titer": "goal: under 0.1",
}
_TITER = (sys.executable, "-m", "titer.cli")
_COMMANDS = {
    "titer --help": (*_TITER, "--help"),
    "titer list attacks": (*_TITER, "list", "attacks"),
    "import titer": (sys.executable, "-c", "import titer"),
    "bare interpreter": (sys.executable, "-c", "pass"),
}


def launched(words: Sequence[str]) -> Sample:
    """Time a process from start to end; ``cpu`` is the child's own.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, started = children(), time.perf_counter()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return Sample(wall=time.perf_counter() - started, cpu=children() - before)


def measure(rounds: int) -> list[Figure]:
    """Every command, interleaved; one round that does not count warms the disk cache."""
    alternatives = {name: lambda words=words: launched(words) for name, words in _COMMANDS.items()}
    interleave(alternatives, 1)
    taken = interleave(alternatives, rounds)
    figures: list[Figure] = []
    for name in _COMMANDS:
        goal = _GOALS.get(name, "")
        for clock in ("wall", "cpu"):
            values = [getattr(sample[name], clock) for sample in taken]
            figures.append(absolute(f"{name}, {clock}", "s", values, goal))
    figures += [ratio(name, taken, name, "bare interpreter", "cpu") for name in _GOALS]
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    asked = arguments(__doc__ or "", rounds=9).parse_args(words)
    single_thread()
    with watched():
        figures = measure(asked.rounds)
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
