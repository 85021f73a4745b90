"""How long the three nano references take to grow from nothing, with two workers, or other kinds.

Growth runs in a process and a cache of its own. Goal: under 180 s on an idle machine.
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
from titer.worlds.organisms import KINDS, REFERENCES

_GROW = (
    "import sys; from pathlib import Path; from titer.worlds.organisms import grow_all; "
    "grow_all(sys.argv[2], workers=int(sys.argv[3]), kinds=sys.argv[4:], root=Path(sys.argv[1]))"
)


def grow(size: str, workers: int, kinds: Sequence[str]) -> tuple[Sample, Tree]:
    """Grow organisms of a size anew, whatever is shipped or in the cache."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, "-c", _GROW, str(Path(scratch) / "grown"), size, str(workers)]
        words += kinds
        tree = Tree(words, environment(Path(scratch)))
        return tree.run(), tree


def measure(
    *, rounds: int, size: str, workers: int, kinds: Sequence[str] = REFERENCES
) -> list[Figure]:
    """Wall-clock, CPU time and memory of growth."""
    runs = [grow(size, workers, kinds) for _ in range(rounds)]
    label = f"growing {', '.join(kinds)} ({size}), workers {workers}"
    goal = "goal: under 180" if size == "nano" else ""
    return [
        absolute(f"{label}, wall", "s", [sample.wall for sample, _ in runs], goal),
        absolute(f"{label}, cpu", "s", [sample.cpu for sample, _ in runs]),
        absolute(f"{label}, peak RSS", "GB", [tree.rss for _, tree in runs], per=1e9),
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", default="nano", choices=("nano", "small", "medium"))
    parser.add_argument("--kinds", nargs="+", default=REFERENCES, choices=tuple(KINDS))
    asked = parser.parse_args(words)
    single_thread()
    with watched():
        figures = measure(
            rounds=asked.rounds, size=asked.size, workers=asked.workers, kinds=asked.kinds
        )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
