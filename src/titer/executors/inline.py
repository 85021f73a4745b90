"""Run jobs one after the other in this process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from titer.core.errors import BadInput
from titer.core.jobs import Ended

__all__ = ["SAYS", "Inline", "start"]

SAYS = "one job at a time in this process, for debugging and for a single core"

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Inline:
    """One job at a time, here: for debugging, and for a single core."""

    def __call__(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[Ended[J, R]]:
        import torch

        torch.set_num_threads(1)
        for job in jobs:
            try:
                yield Ended(job=job, status=function(job))
            except BadInput:
                raise
            except Exception:
                yield Ended(job=job, status="failed", error=traceback.format_exc(limit=20))


def start(workers: int | None, timeout: float | None) -> AbstractContextManager[Inline]:
    """Jobs here, one by one; none is ended when its time is up.

    Raises:
        BadInput: more than one worker was asked for.
    """
    del timeout
    if workers not in (None, 1):
        raise BadInput(
            f"--workers {workers}: the executor inline runs one job at a time; leave --workers "
            "out, or choose another --executor."
        )
    return nullcontext(Inline())
