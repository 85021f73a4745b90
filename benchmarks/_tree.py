"""A command with all the processes it starts: how long they work and how much memory they hold."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks._timing import Sample, children, gathered

__all__ = ["Tree", "environment"]

_FIRST, _EVERY = 0.01, 0.25


def environment(cache: Path) -> dict[str, str]:
    """This process's environment with a cache of its own."""
    return {**os.environ, "TITER_CACHE": str(cache)}


class Tree:
    """A command to run once.

    Afterwards ``rss`` is the largest sum of resident memory over its processes, which counts
    shared pages once a process, and ``pss`` the largest sum in which those are shared out; bytes,
    looked at often at first, since a process begins as an empty one, then four times a second.
    ``pss`` is 0 where the system does not tell.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.words, self.environment = list(words), dict(environment)
        self.rss = self.pss = 0
        self.said = ""

    def run(self) -> Sample:
        """Run to the end.

        Raises:
            RuntimeError: the command failed; the message holds the end of what it said.
        """
        before, started = children(), time.perf_counter()
        process = subprocess.Popen(
            gathered(self.words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watcher = threading.Thread(target=self._watch, args=(process.pid,), daemon=True)
        watcher.start()
        self.said, _ = process.communicate()
        wall = time.perf_counter() - started
        watcher.join(timeout=5)
        if process.returncode:
            raise RuntimeError(f"{self.words} ended with {process.returncode}: {self.said[-2000:]}")
        return Sample(wall=wall, cpu=children() - before)

    def _watch(self, pid: int) -> None:
        pause = _FIRST
        try:
            top = psutil.Process(pid)
            while top.status() != psutil.STATUS_ZOMBIE:
                rss, pss = _held([top, *top.children(recursive=True)])
                self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)
                time.sleep(pause)
                pause = min(2 * pause, _EVERY)
        except psutil.NoSuchProcess:
            return


def _held(processes: Sequence[psutil.Process]) -> tuple[int, int]:
    rss = pss = 0
    for process in processes:
        try:
            rss += process.memory_info().rss
            pss += getattr(process.memory_full_info(), "pss", 0)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return rss, pss
