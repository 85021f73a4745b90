"""Several trials on one model as a cohort: they train in one pass, and each ends by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from titer.core import catalogue
from titer.core.data import World
from titer.core.jobs import Passing
from titer.core.lm import LM
from titer.core.records import Trial
from titer.nn.interface import undropped
from titer.train.candidates import Cohesive
from titer.train.cohort import Finetuning, together
from titer.trial.attempt import Attempt, Done, attack
from titer.trial.baselines import Baseline

__all__ = ["attack_together"]

_LOG = logging.getLogger(__name__)


def attack_together(
    lm: LM,
    trials: Sequence[Trial],
    world: World,
    baselines: Sequence[Baseline | None] = (),
    base: Callable[[], LM] | None = None,
    passed: Passing | None = None,
) -> Iterator[Done]:
    """Run several trials' methods on one model as a cohort; each as it ends. ``passed`` is told of
    every checkpoint.

    Where the cohort as a whole cannot go on (memory, say), those that have not ended run alone.
    """
    begun = list(baselines) or [None] * len(trials)
    if len(trials) == 1:
        yield attack(lm, trials[0], world, begun[0], base, passed=passed)
        return
    lm = undropped(lm)
    keys = tuple(trial.key for trial in trials)
    ended: dict[int, Done] = {}
    attempts = [
        Attempt(lm, trial, world, baseline, passed=passed)
        for trial, baseline in zip(trials, begun, strict=True)
    ]
    members: dict[int, Finetuning] = {}
    for number, attempt in enumerate(attempts):
        name, fields = attempt.trial.attack.name, dict(attempt.trial.attack.fields)
        try:
            method: Cohesive = catalogue.build("attack", name, fields)
            members[number] = method.finetuning(lm, attempt.run)
        except Exception as problem:
            ended[number] = attempt.end(problem)
    numbers = list(members)

    def left(place: int, result: LM | Exception) -> None:
        number = numbers[place]
        trace, said, _ = attempts[number].end(result, keys)
        ended[number] = trace, said, None

    try:
        if members:
            together(lm, list(members.values()), left)
    except Exception:
        _LOG.warning(
            "a cohort of %d fell apart; its members run alone", len(members), exc_info=True
        )
    for number, trial in enumerate(trials):
        yield ended.get(number) or attack(lm, trial, world, begun[number], base, passed=passed)
