"""How a method meets an experiment. A method says *how*; :class:`Run` says *how much*."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from titer.core.data import Data, Example
from titer.core.errors import BudgetExceeded
from titer.core.records import Budget, Spent

if TYPE_CHECKING:
    from titer.core.lm import LM

__all__ = ["Attack", "Chain", "Defence", "Measure", "Run", "chain", "seed_for"]


def seed_for(seed: int, name: str) -> int:
    """A seed for one named source of chance, so that a new source leaves the old draws alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def _ignore(lm: LM, run: Run) -> None:
    """The default ``emit``: nobody is watching."""


@dataclass
class _Ledger:
    """What has been spent and logged; shared between a run and its stages."""

    steps: int = 0
    tokens: int = 0
    flops: float = 0.0
    examples: set[str] = field(default_factory=set[str])
    looked: set[int] = field(default_factory=set[int])
    losses: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])
    flags: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a method gets besides the model: a budget, data, chance, and somewhere to report.

    ``checkpoints`` are the step counts at which ``emit(lm, run)`` is called by :meth:`look`.
    """

    budget: Budget
    data: Data
    seed: int = 0
    emit: Callable[[LM, Run], None] = _ignore
    checkpoints: Sequence[int] = ()
    _ledger: _Ledger = field(default_factory=_Ledger)

    @property
    def spent(self) -> Spent:
        """What has been charged so far."""
        return Spent(
            steps=self._ledger.steps,
            tokens=self._ledger.tokens,
            examples=len(self._ledger.examples),
            flops=self._ledger.flops,
        )

    @property
    def losses(self) -> list[float]:
        """The training loss of each step."""
        return self._ledger.losses

    @property
    def rates(self) -> list[float]:
        """The learning rate really applied at each step."""
        return self._ledger.rates

    @property
    def flags(self) -> list[str]:
        """Doubts that a method has about itself; reports must print them."""
        return self._ledger.flags

    def exhausted(self) -> bool:
        """True when any limited axis of the budget is used up: stop now."""
        return self.spent.reaches(self.budget)

    def steps_left(self, share: float = 1.0) -> int:
        """Optimiser steps still allowed, times ``share``.

        Raises:
            ValueError: the budget does not limit steps, so no schedule can be drawn over it.
        """
        if self.budget.steps is None:
            raise ValueError("a schedule needs a budget in steps: set Budget(steps=...).")
        return round((self.budget.steps - self._ledger.steps) * share)

    def charge(
        self,
        *,
        steps: int = 0,
        tokens: int = 0,
        examples: Iterable[str] = (),
        flops: float = 0.0,
    ) -> None:
        """Add to what has been spent.

        Raises:
            BudgetExceeded: more optimiser steps were taken than the budget holds.
        """
        ledger = self._ledger
        ledger.steps += steps
        ledger.tokens += tokens
        ledger.flops += flops
        ledger.examples.update(examples)
        limit = self.budget.steps
        if limit is not None and ledger.steps > limit:
            raise BudgetExceeded(
                f"the method spent {ledger.steps:,} steps of {limit:,}. `fit` stops in time; "
                "a loop of your own must ask `run.exhausted()`."
            )

    def look(self, lm: LM) -> None:
        """Report the model if a checkpoint is due at the steps spent so far; at most once each."""
        ledger = self._ledger
        if ledger.steps in self.checkpoints and ledger.steps not in ledger.looked:
            ledger.looked.add(ledger.steps)
            self.emit(lm, self)

    def rng(self, name: str) -> random.Random:
        """A generator of its own for one named source of chance."""
        return random.Random(seed_for(self.seed, name))

    def stage(self, steps: int, name: str) -> Run:
        """The next ``steps`` of this run, with chance of its own; what it spends is spent here."""
        end = self._ledger.steps + steps
        limit = self.budget.steps
        return replace(
            self,
            budget=replace(self.budget, steps=end if limit is None else min(end, limit)),
            seed=seed_for(self.seed, name),
        )


class Attack(Protocol):
    """Return a tampered copy of ``lm``, spending at most ``run.budget``; ``lm`` is untouched."""

    def __call__(self, lm: LM, run: Run) -> LM: ...


class Defence(Protocol):
    """Return a hardened copy of ``lm``, spending at most ``run.budget``; ``lm`` is untouched."""

    def __call__(self, lm: LM, run: Run) -> LM: ...


class Measure(Protocol):
    """Judge a model on items, in two steps so that a new judge never asks the model again.

    ``collect`` asks the model and returns one JSON-able record an item; ``judge`` turns records
    into one score an item and needs no model.
    """

    def collect(self, lm: LM, items: Sequence[Example]) -> list[dict[str, object]]: ...

    def judge(
        self, items: Sequence[Example], records: Sequence[dict[str, object]]
    ) -> list[float]: ...


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Methods applied one after the other, the steps shared out evenly among them."""

    stages: tuple[Defence, ...]

    def __call__(self, lm: LM, run: Run) -> LM:
        total = run.steps_left()
        each, extra = divmod(total, len(self.stages))
        for index, stage in enumerate(self.stages):
            steps = each + (extra if index == 0 else 0)
            lm = stage(lm, run.stage(steps, f"stage {index}"))
        return lm


def chain(*stages: Defence) -> Defence:
    """Compose methods: ``chain(first, second)`` applies ``first``, then ``second``."""
    return stages[0] if len(stages) == 1 else Chain(stages=stages)
