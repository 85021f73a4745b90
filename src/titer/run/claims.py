"""Who does what in a run folder that several processes share, without locks or a common clock.

A claim on a job is a file that only one process can create. Who takes over a job that was lost
creates the next claim in its row, so two that try cannot both have it. A process shows that it
lives by a file that it goes on changing, and whoever waits for it watches that file by his own
clock: a process whose file stood still for a lease is gone. One of this machine that has ended is
gone at once.

Nothing is asked of the file system but to create a file that must not be there and to rename one.
What goes wrong costs time and no result: a process that was taken for gone and wakes does again
what another does too, and both write the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from titer.core.files import write_atomic
from titer.core.reading import UNREADABLE, load_json

__all__ = ["Claim", "Claims", "Files", "OnDisk", "Watch", "process"]

_FREE = "free"


class Files(Protocol):
    """What claims ask of a folder."""

    def create(self, name: str, text: str) -> bool:
        """Make a file; False where one of that name is there."""
        ...

    def write(self, name: str, text: str) -> None:
        """Put a whole file in place of another, or where there is none."""
        ...

    def read(self, name: str) -> str | None:
        """What a file holds, which may still be nothing; None where it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A real folder."""

    folder: Path

    def create(self, name: str, text: str) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.folder / name, "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return False
        return True

    def write(self, name: str, text: str) -> None:
        write_atomic(self.folder / name, text)

    def read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Claim:
    """The last claim on a job: the how-manieth it is, and who holds it; None where it was given
    back or there never was one. Where its text has not come yet it holds itself, so that it is
    watched apart from every other. ``says`` is what the job is, for people."""

    number: int
    owner: str | None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one process, which its workers make in its name."""

    files: Files
    owner: str

    def last(self, job: str) -> Claim:
        """The claim that counts."""
        number, text = -1, None
        while (found := self.files.read(f"{job}.{number + 1}")) is not None:
            number, text = number + 1, found
        if text in (None, _FREE):
            return Claim(number, None)
        owner, _, says = text.partition(" ")
        return Claim(number, owner or f"{job}.{number}", says)

    def take(self, job: str, gone: Callable[[str], bool] | None = None, says: str = "") -> bool:
        """Claim a job; False where another process has it.

        Args:
            job: Its name, the same in all processes.
            gone: Whether a process is no more; by default one that said so, or that ended on this
                machine.
            says: What the job is, for people.
        """
        held = self.last(job)
        if held.owner == self.owner:
            return True
        if held.owner is not None and not (gone or self.ended)(held.owner):
            return False
        return self.files.create(f"{job}.{held.number + 1}", f"{self.owner} {says}")

    def release(self, job: str) -> None:
        """Give a job back, whoever did it; nothing where another has taken it over."""
        held = self.last(job)
        if held.owner == self.owner:
            self.files.write(f"{job}.{held.number}", _FREE)

    def ended(self, owner: str) -> bool:
        """Whether a process has said that it ended, or was one of this machine and is no more."""
        told = self.told(owner)
        return bool(told.get("ended")) or _dead(told)

    def told(self, owner: str) -> dict[str, Any]:
        """What a process last said of itself; empty where it has not yet, or cannot be read."""
        try:
            found = load_json(self.files.read(_sign(owner)) or "{}")
        except (OSError, *UNREADABLE):
            return {}
        return found if isinstance(found, dict) else {}

    def tell(self, **said: Any) -> None:
        """Say that this process lives."""
        self.files.write(_sign(self.owner), json.dumps({**process(), **said}))


class Watch:
    """Watches other processes, by this one's clock alone.

    Args:
        claims: Those of this process.
        lease: Seconds for which a process may be silent.
        clock: Seconds that only grow, and stand still while this machine sleeps.
    """

    def __init__(self, claims: Claims, lease: float, clock: Callable[[], float]) -> None:
        self._claims, self._lease, self._clock = claims, lease, clock
        self._seen: dict[str, tuple[object, float]] = {}

    def gone(self, owner: str) -> bool:
        """Whether a process has ended, or stood still for a lease since it was first looked at."""
        if self._claims.ended(owner):
            return True
        now, said = self._clock(), self._claims.told(owner).get("beat")
        before = self._seen.get(owner)
        if before is None or before[0] != said:
            self._seen[owner] = (said, now)
            return False
        return now - before[1] > self._lease


def _sign(owner: str) -> str:
    return f"process-{owner}"


def process() -> dict[str, Any]:
    """Which process this is, so that others of its machine can tell whether it runs."""
    return {"host": os.uname().nodename, "machine": _machine(), "pid": os.getpid()} | _since()


def _machine() -> str:
    """This boot of this machine, and which processes can be seen from here; empty where the system
    does not say, and then nobody is taken for dead."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _since(pid: int | str = "self") -> dict[str, str]:
    """When a process of this machine began, in the system's ticks: numbers of processes come
    again."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return {}
    state, *rest = line.rpartition(")")[2].split()
    return {} if state in "ZX" else {"since": rest[18]}


def _dead(told: Mapping[str, Any]) -> bool:
    """Whether a process was one of this machine and is no more."""
    here = _machine()
    if not here or told.get("machine") != here:
        return False
    return _since(told.get("pid", "")).get("since") != told.get("since")
