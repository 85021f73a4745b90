"""Checkpoints of trials in other processes, told in this one as they are passed.

Workers append lines to one file and this process reads on. No lock is shared, so that a worker that
is stopped leaves nothing behind that others would wait for.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from titer.core.jobs import Passed, Passing

__all__ = ["Listening", "Note", "heard"]

_EVERY = 0.3
"""Seconds between two looks at the file."""


@dataclass(frozen=True, slots=True)
class Note:
    """Takes a checkpoint down, in whatever process."""

    path: str

    def __call__(self, passed: Passed) -> None:
        # One write of one line: lines of several processes are not mixed. A line that cannot be
        # written is lost, and no trial with it.
        with suppress(OSError), open(self.path, "ab", buffering=0) as file:
            file.write((json.dumps(asdict(passed)) + "\n").encode())


class Listening:
    """Reads what was noted, and tells it once."""

    def __init__(self, path: Path, tell: Passing) -> None:
        self.note = Note(str(path))
        self._tell, self._lock = tell, threading.Lock()
        self._file = path.open("rb")

    def catch_up(self) -> None:
        """Tell all that was noted so far."""
        with self._lock:
            while (line := self._file.readline()).endswith(b"\n"):
                self._tell(Passed(**json.loads(line)))
            self._file.seek(-len(line), os.SEEK_CUR)  # half a line is read again

    def close(self) -> None:
        """Tell the rest."""
        self.catch_up()
        self._file.close()


@contextmanager
def heard(tell: Passing | None) -> Iterator[Listening | None]:
    """While the block runs, ``tell`` hears of checkpoints as they are passed; None for nobody."""
    if tell is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="titer-heard-") as folder:
        path = Path(folder) / "passed"
        path.touch()
        listening, over = Listening(path, tell), threading.Event()

        def follow() -> None:
            while not over.wait(_EVERY):
                listening.catch_up()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield listening
        finally:
            over.set()
            thread.join()
            listening.close()
