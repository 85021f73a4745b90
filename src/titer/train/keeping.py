"""What a single training keeps on its way, so that one that was killed goes on to the same bits.

A method is run again from its beginning: all it draws it draws again, and each of its trainings
takes up the weights, the optimiser and the account where the last kept step left them. Batches up
to there are drawn and not used. Files hold tensors and plain values, and are read as nothing else.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from titer.core.errors import BadInput
from titer.core.files import atomic_file, write_atomic

__all__ = ["Keeper", "State"]

_KEY = "key"

State = dict[str, Any]
"""Tensors and plain values."""


@dataclass
class Keeper:
    """Keeps the trainings of one piece of work in ``folder``, ``every`` so many steps, and where it
    is asked to end; where None only there. ``key`` names
    the work; ``also`` gives and takes what else belongs to it, such as what was seen on the way.

    Raises:
        BadInput: the folder holds other work.
    """

    folder: Path
    every: int | None
    key: str
    also: tuple[Callable[[], State], Callable[[State], None]] | None = None
    kept: int = 0
    taken_up: int | None = None
    _number: int = -1
    _stop: Callable[[], object] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        name = self.folder / _KEY
        if name.exists() and name.read_text(encoding="utf-8") != self.key:
            raise BadInput(
                f"{self.folder} holds unfinished work of other settings; delete it, or choose "
                "another --out."
            )

    # -- what the loop calls --------------------------------------------------------------------

    def begin(self) -> State | None:
        """Where the next training was left, None where it had not begun."""
        self._number += 1
        place = self._place()
        if not place.is_file():
            return None
        try:
            found: State = torch.load(place, map_location="cpu", weights_only=True)
        except Exception as error:
            raise BadInput(
                f"{place} is damaged; delete {self.folder}, and the work begins anew."
            ) from error
        self.taken_up = found["ledger"]["steps"]
        if self.also:
            self.also[1](found["also"])
        return found

    def due(self, steps: int) -> bool:
        """Whether to keep what has been reached at so many steps."""
        return self._stop is not None or (self.every is not None and steps % self.every == 0)

    def keep(self, state: State) -> None:
        """Keep a training's state; ends the work where it was asked to end.

        Raises:
            KeyboardInterrupt: it was.
        """
        content = {**state, "also": self.also[0]() if self.also else {}}
        write_atomic(self.folder / _KEY, self.key)
        with atomic_file(self._place()) as file:
            torch.save(content, file)
        self.kept += 1
        if self._stop:
            self._stop()
            raise KeyboardInterrupt

    def _place(self) -> Path:
        return self.folder / f"{self._number}.training"

    # -- what the caller does -------------------------------------------------------------------

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Inside, TERM and Ctrl-C wait for the end of a step, which is kept; the second does not
        wait."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def asked(number: int, frame: Any) -> None:
            handler: Any = before[signal.Signals(number)]

            def end() -> None:
                if callable(handler):
                    handler(number, frame)
                raise KeyboardInterrupt

            if self._number < 0 or self._stop:
                end()
            self._stop = end

        for number in before:
            signal.signal(number, asked)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def done(self) -> None:
        """The work is whole: nothing kept is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
