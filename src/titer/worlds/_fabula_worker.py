"""Growing organisms in processes of their own.

Processes are started by command line rather than by ``multiprocessing``, so that a user's script
needs no ``__main__`` guard and each process has its thread count before torch is loaded. A process
reports on its standard output, one JSON list (label, done, total) a line.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

__all__ = ["grow_chains"]

_CHILD = "titer.worlds._fabula_child"
Progress = Callable[[str, int, int], None]
_News = queue.SimpleQueue[tuple[str, int, int] | None]


def grow_chains(
    chains: Sequence[Sequence[str]],
    size: str,
    seed: int,
    progress: Progress,
    root: Path | None = None,
) -> None:
    """Grow each chain of kinds in a process of its own, all at once, and wait.

    Raises:
        RuntimeError: a process failed; the others are stopped.
    """
    news: _News = queue.SimpleQueue()
    with tempfile.TemporaryFile() as said:
        running: list[subprocess.Popen[str]] = []
        try:
            for chain in chains:
                running.append(_start(chain, size, seed, root, said))
                threading.Thread(target=_listen, args=(running[-1], news), daemon=True).start()
            _watch(running, news, progress)
            if any(process.returncode for process in running):
                said.seek(0)
                end = said.read()[-2000:].decode(errors="replace").strip()
                raise RuntimeError(f"an organism did not grow. The process said: {end}")
        finally:
            for process in running:
                process.kill()
                process.wait()


def _start(
    chain: Sequence[str], size: str, seed: int, root: Path | None, said: IO[bytes]
) -> subprocess.Popen[str]:
    surroundings = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(
        [sys.executable, "-m", _CHILD, str(root or ""), size, str(seed), *chain],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
        env=surroundings,
    )


def _listen(process: subprocess.Popen[str], news: _News) -> None:
    """Pass on what a process reports; None once it has nothing more to say."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            try:
                label, done, total = json.loads(line)
            except (ValueError, TypeError):
                continue  # a library greeted the user
            news.put((label, done, total))
    process.wait()
    news.put(None)


def _watch(running: Sequence[subprocess.Popen[str]], news: _News, progress: Progress) -> None:
    """Report until every process has ended, or one has failed."""
    left = len(running)
    while left:
        item = news.get()
        if item is not None:
            progress(*item)
            continue
        left -= 1
        if any(process.returncode for process in running):
            return
