"""Grows one chain of organisms in a process of its own, and says on its output how far it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from titer.worlds.organisms import organism

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Grow the kinds named last, in order; before them stand the folder, the size and the seed."""
    root, size, seed, *kinds = arguments
    for kind in kinds:
        organism(kind, size, int(seed), _tell, root=Path(root) if root else None)


def _tell(label: str, done: int, total: int) -> None:
    sys.stdout.write(json.dumps([label, done, total]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
