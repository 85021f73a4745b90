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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from titer.core.errors import BadInput

__all__ = [
    "atomic_file",
    "atomic_folder",
    "cache_root",
    "locked",
    "require_place",
    "require_regular",
    "require_space",
    "room",
    "write_atomic",
]


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
    errno.EISDIR: "a folder lies where a file is needed",
    errno.EEXIST: "a file lies where a folder is needed",
    errno.ENOTEMPTY: "a folder that is not empty lies there",
}


def cache_root() -> Path:
    """Where titer keeps what it can make again: ``$TITER_CACHE``, else ``~/.cache/titer``."""
    chosen = os.environ.get("TITER_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "titer"


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


Wants = Literal["folder", "new folder", "file"]
"""A folder to write into, one that is made or replaced as a whole, or a file."""
_SCRATCH = 16
"""Bytes by which the name of a scratch file is longer than that of what it becomes."""


def require_place(path: Path, said: str, wants: Wants = "folder") -> None:
    """Refuse a place that nothing can be written to, before any work is done. Writes nothing.

    Args:
        path: Where a command is about to write.
        said: What the path is called where it was given, as ``--out``.
        wants: What will lie there.

    Raises:
        BadInput: something else lies there or above it, or it may not be written.
    """
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}…"
    try:
        why = _unfit(path, wants)
    except OSError as error:
        why = _REFUSED.get(error.errno or 0) or error.strerror or "it cannot be looked at"
    if why:
        raise BadInput(f"{said} {shown}: {why}; give another place for the {wants.split()[-1]}.")


def _unfit(path: Path, wants: Wants) -> str:
    """Why a place cannot be written to; empty where it can."""
    if "\0" in str(path):
        return "it is no path"
    if path.is_symlink() and not path.exists():
        return "it is a link that leads nowhere"
    if path.exists():
        if wants == "file" and path.is_dir():
            return "it is a folder"
        if wants != "file" and path.is_file():
            return "it is a file"
        if not path.is_dir() and not path.is_file():
            return "it is a device or a pipe"
    at = path.absolute()
    if not (at.is_dir() and wants == "folder"):
        at = at.parent
    while not at.is_dir():
        if at.exists() or at.is_symlink():
            return f"{at} above it is no folder"
        at = at.parent
    longest = os.pathconf(at, "PC_NAME_MAX")
    if any(len(os.fsencode(part)) + _SCRATCH > longest for part in path.parts):
        return _REFUSED[errno.ENAMETOOLONG]
    if not os.access(at, os.W_OK | os.X_OK):
        return f"{at} cannot be written"
    return ""


_TEXTS = {".csv", ".json", ".jsonl", ".yaml", ".yml"}
_LONGEST = 2**30
"""Bytes of a text; one that a run writes has a thousandth of it."""


def require_regular(path: Path) -> None:
    """Refuse a file, or a folder with a file in it, that is a device, a pipe or a socket, or a text
    without end: reading one may never end.

    Raises:
        BadInput: there is one; it is named.
    """
    inside = path.rglob("*") if path.is_dir() else (path,)
    for one in inside:
        if one.is_file():
            if one.suffix in _TEXTS and (size := one.stat().st_size) > _LONGEST:
                raise BadInput(
                    f"{one} has {size:,} bytes, and {_LONGEST:,} are read of a text; give a part "
                    "of it."
                )
        elif one.exists() and not one.is_dir():
            raise BadInput(f"{one} is a device, a pipe or a socket and no file; take it away.")


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


_TRIES = 10
"""How often a folder is put in its place while others put theirs."""


@contextmanager
def atomic_folder(target: Path) -> Generator[Path]:
    """A scratch folder that becomes ``target`` if the block ends well, and vanishes otherwise.

    What lay there goes when the new folder is in its place, and not before; of several processes
    that do it at once the last one's stays. A link to a folder stays one, and the folder that it
    leads to is replaced.
    """
    with room(target):
        target = target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        before = scratch.with_name(f"{scratch.name}.old")
        try:
            yield scratch
            _put(scratch, target, before)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            if before.exists() and not target.exists():
                os.replace(before, target)
            raise
        shutil.rmtree(before, ignore_errors=True)


def _put(scratch: Path, target: Path, before: Path) -> None:
    """Put a folder in place of another, which may go or come at any moment."""
    for left in reversed(range(_TRIES)):
        with suppress(FileNotFoundError):
            os.replace(target, before)
        try:
            os.replace(scratch, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not left:
                raise
            shutil.rmtree(before, ignore_errors=True)
        else:
            return
