"""The one training loop. Methods hand it gradients; it owns everything else.

It drives a *vehicle*: one model, or a cohort of several members on one base. A single run is a
cohort of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypedDict, TypeVar

import torch
from torch import nn

from titer.core.errors import BudgetExceeded, Diverged
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.nn.chance import seeded
from titer.train.chunks import WHOLE, in_chunks
from titer.train.keeping import Keeper
from titer.train.optimisers import Group, Optimiser, Schedule, Steppers, multiplier

__all__ = ["Charged", "GradFn", "Member", "Recipe", "Vehicle", "descend", "doubt", "drive", "fit"]


class Charged(Protocol):
    """What a step consumes: a :class:`~titer.train.batches.Batch` or a bundle of them."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def tokens(self) -> int: ...


class Price(TypedDict):
    """What a step costs, as :meth:`Run.affords` and :meth:`Run.charge` take it."""

    tokens: int
    examples: set[str]
    flops: float


B = TypeVar("B", bound=Charged)
R = TypeVar("R")

GradFn = Callable[[Any, B], dict[str, float]]
"""Adds gradients to ``.grad`` and returns logs, among them ``loss``."""


def _nothing(*_batch: Any) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the loop steps.

    ``lr``: peak learning rate. ``warmup``: share of the steps spent rising. ``clip``: largest joint
    gradient norm, None for no clipping. ``accumulate``: batches a step, gradients averaged.
    ``betas``: AdamW's. ``flops_per_token``: see :func:`titer.nn.trainable.cost`. ``flops_besides``:
    operations a batch costs on top, such as a frozen model's forward pass. ``after``: called after
    each step, before anybody looks: the place of a projection.
    """

    lr: float
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = 1.0
    accumulate: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    flops_per_token: float = 0.0
    flops_besides: Callable[[Any], float] = _nothing
    after: Callable[[], object] = _nothing

    def flops(self, batch: Charged) -> float:
        """Floating-point operations of one batch."""
        return self.flops_per_token * batch.tokens + self.flops_besides(batch)

    def priced(self, flops_per_token: float) -> Recipe:
        """The same with another price."""
        return replace(self, flops_per_token=flops_per_token)


def descend(loss: Callable[[Any, B], torch.Tensor]) -> GradFn[B]:
    """The gradient of a scalar loss."""

    def grad(model: Any, batch: B) -> dict[str, float]:
        value = loss(model, batch)
        value.backward()
        return {"loss": float(value.detach())}

    return grad


@dataclass(kw_only=True)
class Member(Generic[B]):
    """One run among those that train together: its own data, rate, budget and end."""

    run: Run
    batches: Iterator[B]
    recipe: Recipe
    steps: int
    taken: int = 0

    def rate(self) -> float:
        """The learning rate of the next step."""
        warmup = round(self.recipe.warmup * self.steps)
        return self.recipe.lr * multiplier(self.recipe.schedule, self.taken, self.steps, warmup)

    def at_end(self) -> bool:
        """Whether no step is left."""
        return self.taken >= self.steps or self.run.exhausted()

    def draw(self) -> tuple[list[B], Price] | None:
        """The batches of the next step and their price; nothing where they are not affordable."""
        drawn = [next(self.batches) for _ in range(self.recipe.accumulate)]
        price: Price = {
            "tokens": sum(batch.tokens for batch in drawn),
            "examples": {name for batch in drawn for name in batch.ids},
            "flops": sum(self.recipe.flops(batch) for batch in drawn),
        }
        return (drawn, price) if self.run.affords(**price) else None


class Vehicle(Protocol[B]):
    """What the loop drives: it has the weights, and finds their gradients.

    Members are numbered; those that have not been dropped come in one order, that of ``backward``'s
    argument and result, and of ``clip``'s.
    """

    lm: LM

    def weights(self, member: int) -> list[nn.Parameter]: ...

    def zero(self) -> None: ...

    def backward(self, batches: dict[int, B]) -> dict[int, float]:
        """Add every member's gradient; the losses."""
        ...

    def scale(self, factor: float) -> None:
        """Multiply all gradients."""
        ...

    def clip(self, limits: dict[int, float]) -> dict[int, float]:
        """Bound each member's gradient norm; the norms before."""
        ...

    def order(self) -> list[int]:
        """The members still here, in the order of the rows that ``lm`` takes."""
        ...

    def alone(self, member: int) -> AbstractContextManager[LM]:
        """One member as a model to be asked."""
        ...

    def drop(self, member: int) -> None: ...


class _Single(Generic[B]):
    """One model and the function that finds its gradient."""

    def __init__(self, lm: LM, grad: GradFn[B], parameters: list[nn.Parameter]) -> None:
        self.lm, self._grad, self._parameters = lm, grad, parameters

    def weights(self, member: int) -> list[nn.Parameter]:
        return self._parameters

    def zero(self) -> None:
        for weight in self._parameters:
            weight.grad = None

    def backward(self, batches: dict[int, B]) -> dict[int, float]:
        return {
            member: self._grad(self.lm.model, batch)["loss"] for member, batch in batches.items()
        }

    def scale(self, factor: float) -> None:
        for weight in self._parameters:
            if weight.grad is not None:
                weight.grad *= factor

    def clip(self, limits: dict[int, float]) -> dict[int, float]:
        return {
            member: float(nn.utils.clip_grad_norm_(self._parameters, limit))
            for member, limit in limits.items()
        }

    def order(self) -> list[int]:
        return [0]

    @contextmanager
    def alone(self, member: int) -> Iterator[LM]:
        yield self.lm

    def drop(self, member: int) -> None:
        pass


def fit(
    lm: LM,
    grad: GradFn[B],
    batches: Iterator[B],
    run: Run,
    *,
    parameters: list[nn.Parameter],
    recipe: Recipe,
    steps: int,
) -> None:
    """Take up to ``steps`` optimiser steps on ``parameters``, stopping before one that the budget
    does not afford; see :func:`drive`.

    Raises:
        Diverged: the loss, the gradient or the final weights are not finite.
    """

    def left(_member: int, error: Exception | None) -> None:
        if error is not None:
            raise error

    member = Member(run=run, batches=batches, recipe=recipe, steps=steps)
    drive(_Single(lm, grad, parameters), [member], left)


def drive(
    vehicle: Vehicle[B],
    members: Sequence[Member[B]],
    left: Callable[[int, Exception | None], None],
) -> None:
    """Train all members, each to its own end; ``left`` is told of each that ends, with what ended
    it if that was not its budget, while its weights are still there.

    Zeroes gradients, accumulates, clips, sets the scheduled learning rates, steps, charges the runs
    and logs the learning rates that were really applied. ``run.look`` is called where a checkpoint
    is due, before a step and after the last; being looked at changes nothing. A member that
    diverges or raises leaves without disturbing the others. Chance inside the model (dropout) is
    drawn from the first run's seed.
    """
    run = members[0].run
    seed = seed_for(run.seed, f"model {run.spent.steps}")
    # Rows of a cohort are grouped by member, and no part of them is a batch.
    chunk = run.chunk if len(members) == 1 else None
    with seeded(seed, vehicle.lm.device), in_chunks(vehicle.lm.model, chunk) as division:
        _Drive(vehicle, members, left).run()
    if division.whole and WHOLE not in run.flags:
        run.flags.append(WHOLE)


class _Drive(Generic[B]):
    """The state of :func:`drive`."""

    def __init__(
        self,
        vehicle: Vehicle[B],
        members: Sequence[Member[B]],
        left: Callable[[int, Exception | None], None],
    ) -> None:
        self.vehicle, self.left = vehicle, left
        self.here = dict(enumerate(members))
        self.keeper: Keeper | None = members[0].run.keeper if len(members) == 1 else None
        first = members[0].recipe
        if any(
            (other.recipe.accumulate, other.recipe.betas) != (first.accumulate, first.betas)
            for other in members
        ):
            raise ValueError("members that train together accumulate alike, with one AdamW.")
        self.accumulate = first.accumulate
        self.steppers = Steppers(
            {number: self._group(number) for number in self.here}, betas=first.betas
        )

    def _group(self, number: int) -> tuple[Optimiser, Group]:
        recipe, weights = self.here[number].recipe, self.vehicle.weights(number)
        doubt(weights, self.here[number].run)
        return recipe.optimiser, {
            "params": weights,
            "lr": recipe.lr,
            "weight_decay": recipe.weight_decay,
        }

    def run(self) -> None:
        """Step until nobody is left."""
        self._take_up()
        while self.here:
            # All are looked at before any goes on, so that a look may stop another member.
            due = [n for n, m in self.here.items() if not m.at_end() and m.run.due()]
            if len(due) < 2 or len(due) < len(self.here) or not self._look_together():
                for number in due:
                    self._guarded(number, self._look)
            drawn: dict[int, tuple[list[B], Price]] = {}
            for number in list(self.here):
                step = self._guarded(number, self._draw)
                if step is not None:
                    drawn[number] = step
                elif number in self.here:
                    self._leave(number)
            if drawn:
                self._step(drawn)
                self._keep()

    # -- on the way -------------------------------------------------------------------------------

    def _take_up(self) -> None:
        """Go on where a training that was killed left off; several together keep nothing."""
        if self.keeper is None or (found := self.keeper.begin()) is None:
            return
        (number, member), *_ = self.here.items()
        for _ in range(found["taken"]):
            member.draw()
        member.taken = found["taken"]
        member.run.resume(found["ledger"])
        with torch.no_grad():
            for weight, held in zip(self.vehicle.weights(number), found["weights"], strict=True):
                weight.copy_(held)
        self.steppers.take_up(found["steppers"])
        torch.set_rng_state(found["chance"])

    def _keep(self) -> None:
        if self.keeper is None:
            return
        for number, member in self.here.items():
            ends = member.at_end() and self.keeper.every is not None
            if ends or self.keeper.due(member.run.spent.steps):
                self.keeper.keep(
                    {
                        "taken": member.taken,
                        "ledger": member.run.account(),
                        "weights": [weight.detach() for weight in self.vehicle.weights(number)],
                        "steppers": self.steppers.state(),
                        "chance": torch.get_rng_state(),
                    }
                )

    def _guarded(self, number: int, work: Callable[[int], R]) -> R | None:
        """A member whose look or data fail leaves; the others go on."""
        try:
            return work(number)
        except Exception as error:
            self._leave(number, error)
            return None

    def _look(self, number: int) -> None:
        with (
            self.steppers.averaged(number),
            self.vehicle.alone(number) as lm,
            seeded(0, lm.device),
        ):
            lm.model.eval()
            self.here[number].run.look(lm)

    def _look_together(self) -> bool:
        """Look at all members in one pass; a fault leaves it to single looks to find whose."""
        order, lm = self.vehicle.order(), self.vehicle.lm
        with ExitStack() as held:
            for number in order:
                held.enter_context(self.steppers.averaged(number))
            held.enter_context(seeded(0, lm.device))
            lm.model.eval()
            runs = [self.here[number].run for number in order]
            try:
                return Run.look_together(lm, runs, lambda place: self.vehicle.alone(order[place]))
            except Exception:
                return False

    def _draw(self, number: int) -> tuple[list[B], Price] | None:
        member = self.here[number]
        return None if member.at_end() else member.draw()

    def _step(self, drawn: dict[int, tuple[list[B], Price]]) -> None:
        model = self.vehicle.lm.model
        if not model.training:  # it walks over every module, and adapters have hundreds
            model.train()
        self.vehicle.zero()
        losses = dict.fromkeys(drawn, 0.0)
        for turn in range(self.accumulate):
            found = self.vehicle.backward({n: batches[turn] for n, (batches, _) in drawn.items()})
            for number, loss in found.items():
                losses[number] += loss
        if self.accumulate > 1:
            losses = {number: loss / self.accumulate for number, loss in losses.items()}
            self.vehicle.scale(1 / self.accumulate)
        limits = {number: self.here[number].recipe.clip or math.inf for number in drawn}
        for number, norm in self.vehicle.clip(limits).items():
            if not (math.isfinite(losses[number]) and math.isfinite(norm)):
                spent = self.here[number].run.spent.steps
                problem = Diverged(
                    f"after {spent} steps the loss is {losses[number]} and the gradient norm "
                    f"{norm}; lower the learning rate or clip."
                )
                self._leave(number, problem)
        rates = {number: member.rate() for number, member in self.here.items()}
        if rates:
            self.steppers.step(rates)
        for number, rate in rates.items():
            member = self.here[number]
            member.recipe.after()
            member.taken += 1
            try:
                member.run.charge(steps=1, **drawn[number][1])
            except BudgetExceeded as error:
                self._leave(number, error)
                continue
            member.run.log(losses[number], rate)

    def _leave(self, number: int, error: Exception | None = None) -> None:
        self.steppers.leave(number)
        if error is None:
            try:
                self._last_look(number)
            except Exception as problem:
                error = problem
        del self.here[number]
        self.left(number, error)
        self.vehicle.drop(number)

    def _last_look(self, number: int) -> None:
        run = self.here[number].run
        if not all(bool(torch.isfinite(weight).all()) for weight in self.vehicle.weights(number)):
            raise Diverged(
                f"after {run.spent.steps} steps some weights are not finite; "
                "lower the learning rate."
            )
        with self.vehicle.alone(number) as lm:
            lm.model.eval()
            run.look(lm)


def doubt(parameters: list[nn.Parameter], run: Run) -> None:
    """Steps are taken on masters (:class:`Steppers`), but passes, and so losses and gradients, are
    in half precision: other numbers than in single."""
    coarse = any(weight.dtype in (torch.bfloat16, torch.float16) for weight in parameters)
    if coarse and "half-precision-weights" not in run.flags:
        run.flags.append("half-precision-weights")
