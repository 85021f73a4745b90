"""Writing to disk: whole or not at all, and a sentence when there is no room."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from titer.core.errors import BadInput

__all__ = ["atomic_file", "atomic_folder", "locked", "require_space", "room", "write_atomic"]


@contextmanager
def room() -> Generator[None]:
    """Turn a full disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInput(
            "no space left on the disk that holds the output; free some and run the same command "
            "again: finished trials are kept."
        ) from error


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


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock between processes. The system frees it when the process ends, however it ends.

    Between machines it is as good as the ``flock`` of their network file system. Where there is
    none, that the file exists is the lock, and one that is left by a holder that was killed on
    another machine has to be deleted by hand.
    """
    from filelock import FileLock  # it takes longer to import than all else that starts the command

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


@contextmanager
def atomic_file(path: Path, mode: int = 0o600) -> Generator[BinaryIO]:
    """A scratch file that becomes ``path`` if the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with room():
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
    target.parent.mkdir(parents=True, exist_ok=True)
    with room():
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield scratch
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
