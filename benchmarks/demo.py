"""What `titer demo` costs a newcomer, whose cache is empty.

Goals on an idle machine with two workers: 2.5 minutes, 2 GB of memory.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    arguments,
    show,
    single_thread,
    watched,
)
from benchmarks._tree import Tree, environment


def demonstrate(out: Path, cache: Path, workers: int) -> tuple[Sample, Tree]:
    """One demo into a new folder."""
    words = [sys.executable, "-m", "titer.cli", "demo", "--out", str(out)]
    tree = Tree([*words, "--workers", str(workers), "--quiet"], environment(cache))
    return tree.run(), tree


def measure(*, rounds: int, workers: int) -> list[Figure]:
    """Wall-clock, CPU time and memory of a demo into a new folder, with a cache of its own."""
    runs: list[tuple[Sample, Tree]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            runs.append(demonstrate(Path(scratch) / "run", Path(scratch) / "cache", workers))
    label = f"titer demo, workers {workers}"
    return [
        absolute(f"{label}, wall", "s", [sample.wall for sample, _ in runs], "goal: under 150"),
        absolute(f"{label}, cpu", "s", [sample.cpu for sample, _ in runs]),
        absolute(
            f"{label}, peak RSS", "GB", [tree.rss for _, tree in runs], "goal: under 2", per=1e9
        ),
        absolute(f"{label}, peak PSS", "GB", [tree.pss for _, tree in runs], per=1e9),
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args(words)
    single_thread()
    with watched():
        figures = measure(rounds=asked.rounds, workers=asked.workers)
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
