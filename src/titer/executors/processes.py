"""A pool of processes with one thread each, in which a crash or a hang costs one job."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.context import (
    BaseContext,
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

from titer.core.errors import BadInput
from titer.core.jobs import Ended

__all__ = ["SAYS", "Processes", "start", "workers_of"]

SAYS = "a pool of processes with one thread each; a crash or a hang costs one job"

J = TypeVar("J")
R = TypeVar("R")

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Without it products on a graphics card are not the same twice.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # glibc gives each large tensor fresh pages and takes them back at once; small models spend a
    # fifth of a training step on that. Other allocators ignore these.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


_PRELOADED = [
    "titer.run.jobs",
    "peft",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
]
"""What takes a worker most of its start: imported once, by the process that workers are forked
from."""


@contextmanager
def _without_main() -> Iterator[None]:
    """Inside, a process that starts does not run the program's own script again to know what is in
    it: jobs need titer alone, and a script need not say ``if __name__ == "__main__"``."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Forked(ForkServerProcess):
    def start(self) -> None:
        with _without_main():
            super().start()


class _Spawned(SpawnProcess):
    def start(self) -> None:
        with _without_main():
            super().start()


class _ForkServer(ForkServerContext):
    Process = _Forked


class _Spawn(SpawnContext):
    Process = _Spawned


def _context() -> BaseContext:
    """How workers start.

    On Linux they are forked from a server that has imported torch and transformers, and no more: it
    has one thread and holds no device. What was done to a graphics card before a fork is broken
    after it, and macOS warns of forks at all, so there each worker starts from nothing.
    """
    if sys.platform != "linux" or os.environ.get("TITER_DEVICE", "cpu") != "cpu":
        return _Spawn()
    context = _ForkServer()
    context.set_forkserver_preload(_PRELOADED)
    return context


def _prepare(environment: dict[str, str]) -> None:
    """Make a worker fit for the pool, before its first job."""
    import threading

    # The server that forked it may be as old as the first pool.
    os.environ.clear()
    os.environ.update(environment)

    # A worker whose pool was killed would go on writing beside the one that takes its place.
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch
    from tqdm import tqdm

    # Threads of several workers on one core make each other wait a hundredfold.
    torch.set_num_threads(1)
    # Its own lock is one between processes, which a worker that is stopped leaves behind.
    tqdm.set_lock(threading.RLock())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _watched(function: Callable[[J], R], job: J, limit: float, note: str) -> R:
    """Run a job; shortly before its time is up, ``note`` takes down where it is."""
    with open(note, "w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(0.9 * limit, file=file)
        try:
            return function(job)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _where(note: Path) -> str:
    """``in judge (slow.py line 12), called by judge (probes.py line 124)``, where that is known."""
    try:
        threads = note.read_text(encoding="utf-8", errors="replace").split("\n\n")
    except OSError:
        return ""
    mine = next((text for text in threads if " in _watched" in text), "")
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', mine.split(" in _watched")[0])
    told = [
        f"{name} ({Path(file).name} line {line})"
        for file, line, name in frames
        if not name.startswith("<")
    ][:2]
    return " in " + ", called by ".join(told) if told else ""


def workers_of(asked: int | None) -> int:
    """How many processes: as many as asked for, otherwise one a core; one on another device than
    the CPU, of which each would take a share.

    Raises:
        BadInput: none were asked for.
    """
    if asked is not None and asked < 1:
        raise BadInput(f"--workers {asked}: give 1 or more.")
    if asked is None and os.environ.get("TITER_DEVICE", "cpu") != "cpu":
        return 1
    return asked or max(1, len(os.sched_getaffinity(0)))


class Processes:
    """``workers`` processes, started afresh and kept warm until the ``with`` block ends.

    A job that takes longer than ``timeout`` seconds is killed and comes back as timed out, one
    whose process dies as failed; the others go on.
    """

    def __init__(self, workers: int, timeout: float | None = 3600.0) -> None:
        self.workers, self.timeout = workers_of(workers), timeout
        self._pool: ProcessPool | None = None
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> Processes:
        # Children read these when they import torch, before an initialiser could say so.
        self._before = {name: os.environ.get(name) for name in _ENVIRONMENT}
        os.environ.update(_ENVIRONMENT)
        self._pool = ProcessPool(
            max_workers=self.workers,
            context=_context(),
            initializer=_prepare,
            initargs=(dict(os.environ),),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._pool is not None:
            if kind is None:
                self._pool.close()
            else:
                self._pool.stop()
            self._pool.join()
            self._pool = None
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def __call__(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[Ended[J, R]]:
        if self._pool is None:
            raise RuntimeError("use the pool in a with block.")
        with tempfile.TemporaryDirectory(prefix="titer-jobs-") as notes:
            waiting = dict(
                self._scheduled(self._pool, function, job, Path(notes) / str(number))
                for number, job in enumerate(jobs)
            )
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield self._ended(future, *waiting.pop(future))

    def _scheduled(
        self, pool: ProcessPool, function: Callable[[J], R], job: J, note: Path
    ) -> tuple[Future[R], tuple[J, Path]]:
        limit = self._limit(job)
        if limit is None:
            return pool.schedule(function, args=(job,)), (job, note)
        given = (function, job, limit, str(note))
        return pool.schedule(_watched, args=given, timeout=limit), (job, note)

    def _limit(self, job: object) -> float | None:
        """A job that is several trials may take as long as they may together."""
        return None if self.timeout is None else self.timeout * getattr(job, "size", 1)

    def _ended(self, future: Future[R], job: J, note: Path) -> Ended[J, R]:
        try:
            return Ended(job=job, status=future.result())
        except BadInput:
            raise
        except TimeoutError:
            limit = f"the trial took longer than {self.timeout:g} seconds and was stopped"
            said = f"{limit}{_where(note)}."
            return Ended(job=job, status="timed-out", error=said)
        except ProcessExpired as error:
            said = f"the worker process died (exit code {error.exitcode})."
            return Ended(job=job, status="failed", error=said)
        except Exception as error:
            said = getattr(error, "traceback", "") or repr(error)
            return Ended(job=job, status="failed", error=str(said))


def start(workers: int | None, timeout: float | None) -> Processes:
    """A pool of so many processes, one a core where it is left open.

    Raises:
        BadInput: no workers were asked for.
    """
    return Processes(workers_of(workers), timeout)
