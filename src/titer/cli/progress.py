"""Long work shows where it is: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from titer.cli.output import note

if TYPE_CHECKING:
    from titer.core.jobs import Passed
    from titer.core.method import Step, Watch
    from titer.core.records import Trace

__all__ = ["each_checkpoint", "each_trial", "shown", "stepping"]

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
        note(f"{label}: {done} of {total}{left}")

    return tell


def each_trial(trace: Trace) -> None:
    """A line for a trial that has ended: what it was, harm before and after, how long it took."""
    from titer.core.protocol import HARM

    trial, came = trace.trial, trace.status
    if trace.status == "ok":
        before, after = (trace.points[at].mean(HARM) if trace.points else None for at in (0, -1))
        known = before is not None and after is not None
        came = f"harm {before:.2f} → {after:.2f}" if known else "done"
    elif trace.error:
        came = f"{trace.status}: {trace.error.strip().splitlines()[-1]}"
    name = f"{trial.label} on {trial.subject}, seed {trial.seed}"
    note(f"{name}: {came}, {trace.seconds:.1f} s")


def each_checkpoint(passed: Passed) -> None:
    """A line for a checkpoint of a trial or of an immunisation."""
    of = f" of {passed.of}" if passed.of else ""
    cells = [f"step {passed.step}{of}"]
    cells += [f"loss {passed.loss:.3f}"] if passed.loss is not None else []
    cells += [f"rate {passed.rate:.2g}"] if passed.rate is not None else []
    cells += [f"harm {passed.harm:.2f}"] if passed.harm is not None else []
    name = f"{passed.label} on {passed.subject}, seed {passed.seed}"
    note(f"{name}: {', '.join(cells)}")


@contextmanager
def stepping(label: str, *, quiet: bool, verbose: bool) -> Iterator[Watch | None]:
    """Something to tell of every step of one run: a bar on a terminal, elsewhere a line now and
    then; with ``verbose`` a line at every checkpoint, there and elsewhere; None where quiet."""
    if verbose:
        yield _telling(label, _at_checkpoints)
    elif quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(label) as watch:
            yield watch
    else:
        yield _telling(label, _now_and_then())


def _at_checkpoints(step: Step) -> bool:
    from titer.trial.presets import checkpoints

    return step.number in checkpoints(step.of or step.number)


def _now_and_then() -> Callable[[Step], bool]:
    last = time.monotonic()

    def due(_step: Step) -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < _EVERY:
            return False
        last = now
        return True

    return due


def _telling(label: str, due: Callable[[Step], bool]) -> Watch:
    began: dict[str, tuple[float, int]] = {}

    def watch(step: Step) -> None:
        now = time.monotonic()
        begin, first = began.setdefault(step.what, (now, step.number))
        if not due(step):
            return
        left = ""
        if step.of and first < step.number < step.of:
            rest = (now - begin) / (step.number - first) * (step.of - step.number)
            left = f", about {rest:.0f} s left"
        note(f"{label}: {_told(step)}{left}")

    return watch


def _told(step: Step) -> str:
    of = f" of {step.of}" if step.of else ""
    rate = f", rate {step.rate:.2g}" if step.rate is not None else ""
    return f"{step.what} {step.number}{of}, loss {step.loss:.3f}{rate}"


@contextmanager
def _bar(label: str) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = [TextColumn(f"{label}: {{task.description}}"), BarColumn(), TimeRemainingColumn()]
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def watch(step: Step) -> None:
            bars.update(task, description=_told(step), completed=step.number, total=step.of)

        yield watch
