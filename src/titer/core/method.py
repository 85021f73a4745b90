"""How a method meets an experiment. A method says *how*; :class:`Run` says *how much*."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from titer.core.data import Data, Example, Hazard
from titer.core.errors import BadInput, BudgetExceeded
from titer.core.records import Budget, Reading, Spent

if TYPE_CHECKING:
    from titer.core.lm import LM

__all__ = [
    "Attack",
    "Case",
    "Chain",
    "Defence",
    "Insight",
    "Measure",
    "Run",
    "Step",
    "Watch",
    "chain",
    "seed_for",
]


def seed_for(seed: int, name: str) -> int:
    """A seed for one named source of chance, so that a new source leaves the old draws alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A training step that was taken: the ``number``-th of at most ``of``, with its loss and the
    learning rate applied, where it has one; or, of a method that trains nothing, a ``what`` else,
    such as a candidate that was judged."""

    number: int
    of: int | None
    loss: float
    rate: float | None = None
    what: str = "step"


Watch = Callable[[Step], None]
"""Told of a training step."""


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
    doubts: list[str] = field(default_factory=list[str])
    course: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a method gets besides the model: a budget, data, chance, and somewhere to report.

    ``checkpoints`` are the step counts at which ``emit(lm, run)`` is called by :meth:`look`.
    ``base`` loads the model that the attacked one was made from, where it is public. ``watch`` is
    told of every training step. ``chunk`` bounds the tokens of one pass in training: a larger batch
    is divided, see :mod:`titer.train.chunks`. ``keeper`` keeps trainings on their way, see
    :class:`titer.train.keeping.Keeper`.
    """

    budget: Budget
    data: Data
    seed: int = 0
    emit: Callable[[LM, Run], None] = _ignore
    checkpoints: Sequence[int] = ()
    base: Callable[[], LM] | None = None
    watch: Watch | None = None
    chunk: int | None = None
    keeper: Any = None
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

    def account(self) -> dict[str, Any]:
        """All that was spent and written down so far, as plain values."""
        ledger = asdict(self._ledger)
        return {
            **ledger,
            "examples": sorted(ledger["examples"]),
            "looked": sorted(ledger["looked"]),
        }

    def resume(self, account: Mapping[str, Any]) -> None:
        """Take an account up again."""
        sets = {name: set(account[name]) for name in ("examples", "looked")}
        for name, value in {**account, **sets}.items():
            setattr(self._ledger, name, value)

    def log(self, loss: float, rate: float | None = None) -> None:
        """Write down the step that was just charged."""
        self._ledger.losses.append(loss)
        if rate is not None:
            self._ledger.rates.append(rate)
        if self.watch is not None:
            number, of = self._ledger.steps, self.budget.steps
            self.watch(Step(number=number, of=of, loss=loss, rate=rate))

    def tell(self, what: str, number: int, of: int | None, loss: float) -> None:
        """Say how far work is that takes no step; nothing is charged or written down."""
        if self.watch is not None:
            self.watch(Step(number=number, of=of, loss=loss, what=what))

    @property
    def flags(self) -> list[str]:
        """What a method has to say of itself; reports must print it."""
        return self._ledger.flags

    @property
    def doubts(self) -> list[str]:
        """Why a method does not believe its own result: a row with one is suspect, never held."""
        return self._ledger.doubts

    @property
    def course(self) -> list[dict[str, float]]:
        """What a method writes down of its own way, a row now and then; each has a ``step``."""
        return self._ledger.course

    def exhausted(self) -> bool:
        """True when not even a free step is allowed any more, or :meth:`stop` was called: stop now.

        Steps, tokens and operations are used up by spending. Examples are not: those already seen
        may be seen again.
        """
        used, limit = self.spent, self.budget
        return (
            self._ledger.stopped
            or (limit.steps is not None and used.steps >= limit.steps)
            or (limit.tokens is not None and used.tokens >= limit.tokens)
            or (limit.flops is not None and used.flops >= limit.flops)
        )

    def stop(self, why: str) -> None:
        """Take no further step, and flag why; whoever looks may call it."""
        self._ledger.stopped = True
        if why not in self.flags:
            self.flags.append(why)

    def affords(self, *, tokens: int = 0, examples: Iterable[str] = (), flops: float = 0.0) -> bool:
        """Whether one more step at this price stays inside the budget on every axis."""
        used = self.spent
        after = Spent(
            steps=used.steps + 1,
            tokens=used.tokens + tokens,
            examples=used.examples + len(set(examples) - self._ledger.examples),
            flops=used.flops + flops,
        )
        return not after.over(self.budget)

    def steps_left(self, share: float = 1.0) -> int:
        """Optimiser steps still allowed, times ``share``.

        Raises:
            BadInput: the budget does not limit steps, so no schedule can be drawn over it.
        """
        if self.budget.steps is None:
            raise BadInput("a schedule needs a budget in steps: set Budget(steps=...).")
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
            BudgetExceeded: more was spent than the budget holds, on any axis.
        """
        ledger = self._ledger
        ledger.steps += steps
        ledger.tokens += tokens
        ledger.flops += flops
        ledger.examples.update(examples)
        if over := self.spent.over(self.budget):
            raise BudgetExceeded(
                f"the method spent {' and '.join(over)}. `fit` stops in time; "
                "a loop of your own must ask `run.affords(...)` before each step."
            )

    def due(self) -> bool:
        """True when a checkpoint is asked for at the steps spent so far and has not been taken."""
        ledger = self._ledger
        return ledger.steps in self.checkpoints and ledger.steps not in ledger.looked

    def look(self, lm: LM) -> None:
        """Report the model if a checkpoint is :meth:`due`; at most once each."""
        if self.due():
            self.mark()
            self.emit(lm, self)

    def mark(self) -> None:
        """Count the checkpoint at the steps spent so far as taken."""
        self._ledger.looked.add(self._ledger.steps)

    @staticmethod
    def look_together(
        lm: LM, runs: Sequence[Run], alone: Callable[[int], AbstractContextManager[LM]]
    ) -> bool:
        """Report several runs in one pass, where their ``emit`` has a way to: an attribute ``many``
        that takes these arguments and says whether it did.

        ``lm`` takes batches of K rows a run, grouped in the order of ``runs``, all of which are
        :meth:`due`; ``alone(place)`` gives one of them as a model of its own.
        """
        many = getattr(runs[0].emit, "many", None)
        if many is None or not many(lm, runs, alone):
            return False
        for run in runs:
            run.mark()
        return True

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
class Case:
    """What a measure that looks inside a model is given.

    ``lm`` is the model and ``base`` the undefended one beside it; ``derived`` says that the first
    was made from the second, so that the difference of their weights is what a defence did.
    ``hazard`` holds all its splits, the held-out ones too: nobody trains here. ``data`` is what an
    attacker may train on.
    """

    lm: LM
    base: LM
    hazard: Hazard
    data: Data
    derived: bool = True
    seed: int = 0


class Insight(Protocol):
    """A measure that looks inside a model, to say why it holds or falls; it judges nothing.

    Neither model is changed. Readings differ in ``what`` or ``place``; one that cannot be had is
    there all the same, without a value and with a note that says why.
    """

    def look(self, case: Case) -> Sequence[Reading]: ...


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Methods applied one after the other, the steps shared out evenly among them.

    Steps that a stage does not need (one of closed form, say) go to those after it.
    """

    stages: tuple[Defence, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise BadInput("a chain needs at least one method.")

    def __call__(self, lm: LM, run: Run) -> LM:
        for index, stage in enumerate(self.stages):
            steps = run.steps_left(1 / (len(self.stages) - index))
            lm = stage(lm, run.stage(steps, f"stage {index}"))
        return lm


def chain(*stages: Defence) -> Defence:
    """Compose methods: ``chain(first, second)`` applies ``first``, then ``second``."""
    return stages[0] if len(stages) == 1 else Chain(stages=stages)
