"""Jobs, whoever runs them: how one ended, and what hears how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

__all__ = ["Ended", "Executor", "Passed", "Passing", "Progress"]

Progress = Callable[[str, int, int], None]
"""Told a label, how many are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A checkpoint that a trial or an immunisation has passed: ``step`` of at most ``of`` on the
    model ``subject``, the training ``loss`` there in nats and the learning ``rate``, where a step
    was taken, and held-out ``harm``, where it is asked."""

    label: str
    subject: str
    seed: int
    step: int
    of: int | None
    loss: float | None = None
    rate: float | None = None
    harm: float | None = None


Passing = Callable[[Passed], None]
"""Told of every checkpoint."""

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Generic[J, R]):
    """How a job ended: what its function returned, or ``failed`` or ``timed-out`` and the ``error``
    where it could not write its own result."""

    job: J
    status: R | Literal["failed", "timed-out"]
    error: str = ""


class Executor(Protocol):
    """Runs a function on jobs, in any order, and yields each as it ends."""

    def __call__(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[Ended[J, R]]: ...
