"""Jobs, whoever runs them: how one ended, and what hears how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from titer.core.records import Status

__all__ = ["Ended", "Executor", "Progress"]

Progress = Callable[[str, int, int], None]
"""Told a label, how many are done, and how many there are."""

J = TypeVar("J")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Generic[J]):
    """How a job ended; ``error`` is set where it could not write its own result."""

    job: J
    status: Status
    error: str = ""


class Executor(Protocol):
    """Runs a function on jobs, in any order, and yields each as it ends."""

    def __call__(
        self, function: Callable[[J], Status], jobs: Sequence[J]
    ) -> Iterator[Ended[J]]: ...
