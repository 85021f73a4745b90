"""Long work shows where it is: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["shown"]

Progress = Callable[[str, int, int], None]

_EVERY = 10.0
"""Seconds between two plain lines of one label."""


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """Something to call with a label, how many are done, and how many there are."""
    if quiet:
        yield lambda label, done, total: None
    elif sys.stderr.isatty():
        with _bars() as tell:
            yield tell
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns: list[Any] = [
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def tell(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield tell


def _lines() -> Progress:
    told: dict[str, float] = {}
    started: dict[str, tuple[float, int]] = {}

    def tell(label: str, done: int, total: int) -> None:
        now = time.monotonic()
        begin, first = started.setdefault(label, (now, done))
        if done < total and now - told.get(label, -_EVERY) < _EVERY:
            return
        told[label] = now
        left = ""
        if first < done < total:
            rest = (now - begin) / (done - first) * (total - done)
            left = f", about {rest:.0f} s left"
        print(f"{label}: {done} of {total}{left}", file=sys.stderr, flush=True)

    return tell
