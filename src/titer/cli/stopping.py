"""How a command ends when it is stopped: a sentence, workers sent home, and a code of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from titer.cli.output import say

__all__ = ["stoppable"]

_INTERRUPTED, _TERMINATED = 130, 143


@contextmanager
def stoppable() -> Generator[None]:
    """Inside, Ctrl-C and TERM end the command alike, with one sentence; 130 and 143 are the codes.

    TERM is raised as an interrupt, so that all that is put in order after one is put in order
    after the other. Processes that are forked from this one die of it as they would have.
    """
    own, terminated = os.getpid(), False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal terminated
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        terminated = True
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        # typer turns an interrupt into an exit before anybody else sees it.
        interrupted = isinstance(error, KeyboardInterrupt) or error.code == _INTERRUPTED
        if not interrupted:
            raise
        say("titer: stopped; the same command goes on where this one ended.", err=True)
        raise SystemExit(_TERMINATED if terminated else _INTERRUPTED) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
