"""Work on the files of strangers, tried in a child process first: with limits on time and memory.

A tokenizer's regular expression, a loop in a chat template or a number in a configuration can keep
a program busy for ever, inside libraries that cannot be interrupted. A child can be ended. It is
forked, so it costs milliseconds where the libraries are loaded already; whatever else goes wrong in
it is left for the real work to say.
"""

from __future__ import annotations

import faulthandler
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from titer.core.bounds import require_number
from titer.core.errors import BadInput

__all__ = ["TIMEOUT", "VARIABLE", "load_timeout", "tried"]

VARIABLE = "TITER_LOAD_TIMEOUT"
TIMEOUT = 12.0
"""Seconds of computing, where nobody says otherwise."""
_SLOWER = 10
"""By the clock it may take so many times as long: the machine may be busy, or a disk slow."""
_MEMORY = 4 * 2**30
"""Bytes that the child may take beside what its parent has."""
_NO_MEMORY = 3
_LONGEST = 4096


def load_timeout() -> float:
    """The seconds of computing that reading a model or data may take: :data:`VARIABLE`'s.

    Raises:
        BadInput: it is no number, or out of range.
    """
    said = os.environ.get(VARIABLE) or TIMEOUT
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    require_number("load_timeout", seconds, VARIABLE)
    return seconds


def tried(work: Callable[[], str | None], what: str) -> None:
    """Refuse what cannot be done within limits on time and memory.

    Args:
        work: What is done in a child process. It may say what is wrong; what it raises counts for
            nothing, since the work is done again in this process. What it changes is lost.
        what: What is read, for the sentence.

    Raises:
        BadInput: it took too long or too much memory, ended the process, or said what is wrong.
    """
    seconds = load_timeout()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads; the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _child(work, writing, seconds)
    os.close(writing)
    try:
        said, late = _heard(reading, seconds * _SLOWER)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise BadInput(
            f"{what} takes more than {seconds:g} seconds to be read, as files do that were made to "
            "stop a program; do not use it, or allow more (--load-timeout, in seconds)."
        )
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _NO_MEMORY:
        raise BadInput(
            f"{what} takes more than {_MEMORY // 2**30} GiB to be read beside its weights, as "
            "files do that were made to stop a program; do not use it."
        )
    if os.WIFSIGNALED(status) and not said:
        raise BadInput(
            f"{what} ends the program that reads it ({signal.Signals(os.WTERMSIG(status)).name}), "
            f"or takes more than {_MEMORY // 2**30} GiB; do not use it, or save it again."
        )
    if fault := said.removesuffix(_END):
        raise BadInput(fault)


_END = "\0"
"""Closes what a child says, so that one which is ended has said nothing."""


def _heard(reading: int, seconds: float) -> tuple[str, bool]:
    """What a child said before it ended, and whether it was still busy then."""
    ends, said = time.monotonic() + seconds, b""
    while True:
        left = ends - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            return "", True
        block = os.read(reading, _LONGEST)
        said += block
        if not block or said.endswith(_END.encode()):
            return said.decode("utf-8", "replace"), False


def _child(work: Callable[[], str | None], writing: int, seconds: float) -> None:
    """The work, and the end of this process whatever happens."""
    code, fault = 0, ""
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        faulthandler.disable()  # a death is told by its parent
        _limit(seconds)
        fault = work() or ""
    except BaseException as error:  # the real work says all but that there is no memory
        code = _NO_MEMORY if _starved(error) else 0
    finally:
        with suppress(BaseException):
            if not code:
                os.write(writing, fault.encode("utf-8", "replace")[: _LONGEST - 1] + _END.encode())
        os._exit(code)


def _starved(error: BaseException | None) -> bool:
    """Whether there was no memory, however it was put on the way."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit(seconds: float) -> None:
    import resource

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are the parent's
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = taken + _MEMORY
        if most != resource.RLIM_INFINITY:
            allowed = min(allowed, most)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
