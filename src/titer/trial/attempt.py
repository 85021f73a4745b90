"""One trial, start to end: an attack on a model, looked at on its way, and how it ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from titer.core import catalogue
from titer.core.data import Data, World
from titer.core.errors import BadInput, Diverged
from titer.core.jobs import Passed, Passing
from titer.core.lm import LM
from titer.core.method import Run, Watch
from titer.core.protocol import HARM
from titer.core.records import Cut, Point, Status, Trace, Trial
from titer.measures._room import cut_of
from titer.nn.interface import undropped
from titer.train.keeping import Keeper
from titer.trial.baselines import Baseline
from titer.trial.probes import Probe, asked_in
from titer.trial.recorder import Recorder

__all__ = ["Attempt", "Done", "attack", "prepare"]


def prepare(trial: Trial, world: World) -> tuple[Data, list[Probe]]:
    """What the party may see, and what it is asked."""
    asked = asked_in(world, trial)
    if trial.task:
        return Data(unrelated=world.tasks[trial.task].train), asked
    return world.attacker(trial.domain), asked


Done = tuple[Trace, list[dict[str, Any]], LM | None]
"""What a trial left, what was said, and the tampered model."""


def _tell(trial: Trial, passed: Passing, run: Run, point: Point) -> None:
    passed(
        Passed(
            label=trial.label or trial.task,
            subject=trial.subject,
            seed=trial.seed,
            step=point.spent.steps,
            of=trial.budget.steps,
            loss=run.losses[-1] if run.losses else None,
            rate=run.rates[-1] if run.rates else None,
            harm=point.mean(HARM),
        )
    )


class Attempt:
    """A trial on its way: its run, its looks, and how it ended. ``base`` loads the undefended
    model."""

    def __init__(
        self,
        lm: LM,
        trial: Trial,
        world: World,
        baseline: Baseline | None,
        base: Callable[[], LM] | None = None,
        watch: Watch | None = None,
        passed: Passing | None = None,
        chunk: int | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        data, asked = prepare(trial, world)
        self.lm, self.trial = lm, trial
        self.started = time.monotonic()
        known = baseline.said_by if baseline else None
        tell = partial(_tell, trial, passed) if passed else None
        self.recorder = Recorder(asked, trial.budget.steps or 0, known, trial.enough, tell)
        self.run = Run(
            budget=trial.budget,
            data=data,
            seed=trial.seed,
            emit=self.recorder,
            checkpoints=trial.checkpoints,
            base=base if trial.base else None,
            watch=watch,
            chunk=chunk,
            keeper=keeper,
        )
        if keeper:
            keeper.also = self.recorder.state, self.recorder.take_up

    def end(self, result: LM | Exception, cohort: tuple[str, ...] = ()) -> Done:
        """Write the trace. A run that diverged or raised keeps the points it reached, and counts as
        a failed attack."""
        status: Status = "ok"
        error = weights = refused = ""
        out: LM | None = None
        try:
            if isinstance(result, Exception):
                raise result
            weights = result.digest()
            points = self.recorder.points
            last = points[-1].spent.steps if points else -1
            steps = self.run.spent.steps
            # An attack without a training step is seen before (point 0) and after.
            changed = (weights, result.template_digest()) != (
                self.lm.digest(),
                self.lm.template_digest(),
            )
            if last != steps or (steps == 0 and changed):
                self.recorder(result, self.run)
            out = result
        except Diverged as problem:
            status, error, weights = "diverged", str(problem), ""
        except Exception as problem:
            status, error, weights = "failed", traceback.format_exc(limit=20), ""
            refused = " ".join(problem.faults) if isinstance(problem, BadInput) else ""
        trace = Trace(
            trial=self.trial,
            status=status,
            points=tuple(self.recorder.points),
            losses=tuple(self.run.losses),
            rates=tuple(self.run.rates),
            flags=tuple(self.run.flags),
            doubts=tuple(dict.fromkeys(self.run.doubts)),
            course=tuple(self.run.course),
            error=error,
            refused=refused,
            seconds=(time.monotonic() - self.started) / max(1, len(cohort)),
            weights=weights,
            cohort=cohort,
            cut=self._cut() if status == "ok" else None,
        )
        return trace, self.recorder.generations, out

    def _cut(self) -> Cut:
        """What of the lines that the attack is made for, and of the questions, was too long."""
        lines = self.run.data.unrelated if self.trial.task else self.run.data.harmful
        asked = ((probe.build(), probe.items) for probe in self.recorder.asked)
        return cut_of(self.lm, lines, asked)


def attack(
    lm: LM,
    trial: Trial,
    world: World,
    baseline: Baseline | None = None,
    base: Callable[[], LM] | None = None,
    watch: Watch | None = None,
    passed: Passing | None = None,
    chunk: int | None = None,
    keeper: Keeper | None = None,
) -> Done:
    """Run one trial's method on a model; ``base`` loads the undefended one, ``watch`` is told of
    every training step, and ``passed`` of every checkpoint; ``chunk`` bounds the tokens of one
    pass in training, and ``keeper`` keeps what was reached on the way. An attacker trains without
    dropout, whatever a release asks for."""
    lm = undropped(lm)
    attempt = Attempt(lm, trial, world, baseline, base, watch, passed, chunk, keeper)
    method = catalogue.build("attack", trial.attack.name, dict(trial.attack.fields))
    try:
        if trial.base and base is None:
            raise BadInput(f"the trial starts from the model {trial.base}, and none was given.")
        with keeper.deferring() if keeper else nullcontext():
            made = method(lm, attempt.run)
        return attempt.end(made)
    except Exception as problem:
        return attempt.end(problem)
