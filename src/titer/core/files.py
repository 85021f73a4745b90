"""Writing to disk: whole or not at all, and a sentence when there is no room."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from titer.core.errors import BadInput

__all__ = ["atomic_file", "atomic_folder", "locked", "require_space", "room", "write_atomic"]


_LOG = logging.getLogger(__name__)
_IN_WORDS = re.compile(r"os error (\d+)")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = {
    errno.EFBIG: "the file is larger than the disk or a limit (ulimit -f) allows",
    errno.EROFS: "the disk can only be read",
    errno.EACCES: "permission is denied",
    errno.EPERM: "it is not permitted",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a file lies where a folder is needed",
    errno.ELOOP: "its links go round in circles",
}


@contextmanager
def room(place: Path | None = None) -> Generator[None]:
    """Turn what the system says of a disk that takes no more into a sentence; ``place`` is what is
    written."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        number = _errno(error)
        if number in _NO_SPACE:
            raise BadInput(
                "no space left on the disk that holds the output; free some and run the same "
                "command again: finished trials are kept."
            ) from error
        if number in _REFUSED:
            what = place or getattr(error, "filename", None) or "a file"
            raise BadInput(
                f"{what} cannot be {'written' if place else 'used'}: {_REFUSED[number]}; choose "
                "another place, or mend that and run the same command again: finished trials are "
                "kept."
            ) from error
        raise


def _errno(error: BaseException) -> int | None:
    """The system's number of an error, which safetensors only puts into words."""
    if isinstance(error, OSError):
        return error.errno
    said = _IN_WORDS.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(said[1]) if said else None


def require_space(folder: Path, needed: int) -> None:
    """Refuse to start when the disk cannot hold ``needed`` bytes.

    Raises:
        BadInput: too little space.
    """
    at = folder.absolute()
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if free < needed:
        raise BadInput(
            f"no space left: {folder} needs about {needed / 2**20:,.0f} MiB and its disk has "
            f"{free / 2**20:,.0f}; free some or choose another --out."
        )


_TRY, _WARN, _HELD = 20.0, 5.0, 3600.0
"""Seconds: that one try for a lock may take, after which waiting is told of, and waited at most."""


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock between processes. The system frees it when the process ends, however it ends.

    A lock is a courtesy: it saves work that would be done twice. Where the file system has none,
    does not answer, or one is held for an hour, the work goes on without, and that is said once.
    Between machines it is as good as the ``flock`` of their network file system.
    """
    held = _taken(path)
    try:
        yield
    finally:
        if held is not None:
            held.release()


def _taken(path: Path) -> Any:
    """The lock, or None where there is none to be had."""
    from filelock import FileLock  # it takes longer to import than all else that starts the command

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _without(path, str(error.strerror))
    lock = FileLock(path, thread_local=False)
    started, told = time.monotonic(), False
    while True:
        attempt = _Attempt(lock)
        attempt.start()
        attempt.join(_TRY)
        if not attempt.give_up():
            return _without(path, f"the file system does not answer ({_TRY:g} s)")
        if attempt.fault is not None:
            return _without(path, str(attempt.fault))
        if attempt.taken:
            return lock
        waited = time.monotonic() - started
        if waited > _HELD:
            return _without(path, f"another process has held it for {_HELD / 60:.0f} minutes")
        if waited > _WARN and not told:
            _LOG.warning("waiting for another process that does the same work (%s)", path)
            told = True
        time.sleep(min(0.2, 0.01 + waited / 20))


class _Attempt(threading.Thread):
    """One try for a lock, in a thread of its own: on some network disks it never returns."""

    def __init__(self, lock: Any) -> None:
        super().__init__(daemon=True)
        self.lock, self.taken = lock, False
        self.fault: Exception | None = None
        self._ended = self._abandoned = False
        self._turn = threading.Lock()

    def run(self) -> None:
        try:
            self.lock.acquire(blocking=False)
            self.taken = True
        except TimeoutError:
            pass
        except Exception as fault:  # whatever the file system answers, there is no lock
            self.fault = fault
        with self._turn:
            self._ended = True
            if self._abandoned and self.taken:
                self.lock.release()

    def give_up(self) -> bool:
        """Whether the try has ended; if it has not, a lock that comes too late is let go."""
        with self._turn:
            self._abandoned = not self._ended
            return self._ended


@functools.cache
def _told(why: str) -> None:
    _LOG.warning("there are no file locks (%s); work may be done twice, results stay right", why)


def _without(path: Path, why: str) -> None:
    _LOG.debug("no lock at %s: %s", path, why)
    _told(why)


@contextmanager
def atomic_file(path: Path, mode: int = 0o600) -> Generator[BinaryIO]:
    """A scratch file that becomes ``path`` if the block ends well, and vanishes otherwise."""
    with room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_atomic(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def atomic_folder(target: Path) -> Generator[Path]:
    """A scratch folder that becomes ``target`` if the block ends well, and vanishes otherwise."""
    with room(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield scratch
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
