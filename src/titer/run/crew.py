"""One of the processes that work in a run folder: it takes jobs that nobody has, and waits for the
last ones of the others."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from titer.core.errors import BadInput
from titer.core.jobs import Ended, Executor
from titer.core.records import Status
from titer.plan.manifest import CLAIMS
from titer.run.claims import Claims, OnDisk, Watch

__all__ = ["LEASE", "Crew", "Shareable", "crew"]

_LOG = logging.getLogger(__name__)

LEASE = 120.0
"""Seconds of silence after which a process of another machine is taken for gone. Network file
systems show a change up to a minute late."""
_BEAT, _LOOK = 10.0, 1.0
"""Seconds between two signs of life, and between two looks at what others have in hand."""
_TOLD = 30.0
"""Seconds after which waiting is told of."""


class Shareable(Protocol):
    """A job that any process may do."""

    @property
    def claim(self) -> str:
        """Its name, the same in all of them."""
        ...

    @property
    def says(self) -> str:
        """What it is, for people."""
        ...

    @property
    def results(self) -> Sequence[Path]:
        """The files that say how it ended, written whole."""
        ...


J = TypeVar("J", bound=Shareable)


@dataclass(frozen=True)
class _Claimed(Generic[J]):
    """Does a job whose claim can be had, in whatever process; None where somebody else has it."""

    function: Callable[[J], Status]
    claims: Claims

    def __call__(self, job: J) -> Status | None:
        return self.function(job) if self.claims.take(job.claim, says=job.says) else None


class Crew:
    """This process among those of a run folder."""

    def __init__(self, root: Path, lease: float = LEASE) -> None:
        self._folder, self._lease = root / CLAIMS, lease
        self._claims = Claims(OnDisk(self._folder), secrets.token_hex(8))
        self._watch = Watch(self._claims, lease, time.monotonic)

    def share(
        self, executor: Executor, function: Callable[[J], Status], jobs: Sequence[J]
    ) -> Iterator[Ended[J, Status]]:
        """Do jobs that no other process has, and yield each as it ends, here or elsewhere.

        A job was done elsewhere when all its results are there and are other files than at the
        start: one that had failed before is tried again, by one process.
        """
        before = {job.claim: _stamps(job) for job in jobs}
        todo, waiting = list(jobs), list[J]()
        began, told = time.monotonic(), False
        while todo or waiting:
            for end in executor(_Claimed(function, self._claims), todo):
                if end.status is None:
                    waiting.append(end.job)
                    continue
                yield Ended(job=end.job, status=end.status, error=end.error)
                self._claims.release(end.job.claim)  # by now its result is written
            todo, still = [], list[J]()
            for job in waiting:
                if _written(before[job.claim], _stamps(job)):
                    yield Ended(job=job, status="ok")
                elif self._claims.take(job.claim, self._watch.gone, job.says):
                    todo.append(job)
                else:
                    still.append(job)
            waiting = still
            if todo or not waiting:
                began = time.monotonic()
                continue
            if not told and time.monotonic() - began > _TOLD:
                told = True
                _LOG.warning("waiting for %s", self._whom(waiting))
            time.sleep(_LOOK)

    def _whom(self, jobs: Sequence[Shareable]) -> str:
        owners = {self._claims.last(job.claim).owner or "" for job in jobs}
        said = [self._claims.told(owner) for owner in sorted(owners)]
        return ", ".join(f"process {one.get('pid')} on {one.get('host')}" for one in said)

    @contextmanager
    def turn(self, what: str) -> Generator[None]:
        """Do what one process at a time may do."""
        while not self._claims.take(what, self._watch.gone):
            time.sleep(_LOOK)
        try:
            yield
        finally:
            self._claims.release(what)

    def others(self) -> list[Mapping[str, object]]:
        """What the other processes that work here say of themselves: those that have not ended and
        were heard within a lease before this one, by the folder's own clock."""
        now = _written_at(self._folder / f"process-{self._claims.owner}")
        return [
            self._claims.told(owner)
            for path in sorted(self._folder.glob("process-*"))
            if (owner := path.name.removeprefix("process-")) != self._claims.owner
            and not self._claims.ended(owner)
            and now - _written_at(path) < self._lease
        ]

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Show that this process lives, until the block ends."""
        over, began = threading.Event(), datetime.now(UTC).isoformat(timespec="seconds")

        def beat() -> None:
            count = 0
            while not over.wait(min(_BEAT, self._lease / 4)):
                count += 1
                with suppress(Exception):  # a disk that does not answer is found out by the work
                    self._claims.tell(beat=count, began=began)

        self._claims.tell(beat=0, began=began)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(Exception):
                self._claims.tell(beat=-1, ended=True)
                if not self.others():
                    shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def crew(root: Path) -> Generator[Crew]:
    """This process among those of a run folder, at work until the block ends.

    Raises:
        BadInput: ``TITER_LEASE`` is no number of seconds.
    """
    one = Crew(root, _lease())
    with one.at_work():
        yield one


def _lease() -> float:
    """``TITER_LEASE``, in seconds, where it is set."""
    given = os.environ.get("TITER_LEASE", "")
    try:
        seconds = float(given or LEASE)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BadInput(f"TITER_LEASE is {given!r}; give seconds above 0, such as {LEASE:g}.")
    return seconds


def _stamps(job: Shareable) -> list[tuple[int, int] | None]:
    """What tells each result from one that was there before; None for one that is not there."""
    return [_stamp(path) for path in job.results]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _written(before: Sequence[object], now: Sequence[object]) -> bool:
    return all(one is not None and one != old for one, old in zip(now, before, strict=True))
