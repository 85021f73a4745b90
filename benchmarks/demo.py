"""What `titer demo` costs a newcomer: first with an empty cache, then with the organisms grown.

Goals on an idle machine with two workers: 6 minutes, 2.5 minutes with the cache, 2 GB of memory.
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

_GOALS = {"empty cache": "goal: under 360", "warm cache": "goal: under 150"}


def demonstrate(out: Path, cache: Path, workers: int) -> tuple[Sample, Tree]:
    """One demo into a new folder."""
    words = [sys.executable, "-m", "titer.cli", "demo", "--out", str(out)]
    tree = Tree([*words, "--workers", str(workers), "--quiet"], environment(cache))
    return tree.run(), tree


def measure(*, rounds: int, workers: int) -> list[Figure]:
    """Each round is a demo with an empty cache and one with the cache that it left."""
    found: dict[str, list[tuple[Sample, Tree]]] = {name: [] for name in _GOALS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            for name in _GOALS:
                found[name].append(demonstrate(root / name, root / "cache", workers))
    figures: list[Figure] = []
    for name, runs in found.items():
        label = f"titer demo, {name}, workers {workers}"
        walls, cpus = zip(*((sample.wall, sample.cpu) for sample, _ in runs), strict=True)
        held = [tree.rss for _, tree in runs]
        shared = [tree.pss for _, tree in runs]
        figures += [
            absolute(f"{label}, wall", "s", walls, _GOALS[name]),
            absolute(f"{label}, cpu", "s", cpus),
            absolute(f"{label}, peak RSS", "GB", held, "goal: under 2", per=1e9),
            absolute(f"{label}, peak PSS", "GB", shared, per=1e9),
        ]
    return figures


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
