"""Through which interface one attack goes: as :mod:`titer.plan.interfaces` decides for a study."""

from __future__ import annotations

from dataclasses import replace

from titer.core import catalogue
from titer.core.data import World
from titer.core.lm import LM
from titer.core.records import Budget, Point, Trial, part
from titer.nn.interface import differing, through
from titer.plan.interfaces import stronger
from titer.trial.attempt import attack as attempt
from titer.trial.result import AttackResult

__all__ = ["ways", "worst"]


def ways(lm: LM, other: LM | None, trial: Trial, world: World) -> list[tuple[LM, Trial]]:
    """The model as an attacker takes it, with the trial to be run on it: as it is where nothing of
    its interface differs from that of ``other``; behind the other where that shows at least the
    harm and the use; else both."""
    if other is None or not differing(lm, other):
        return [(lm, trial)]
    clean = through(lm, other), replace(trial, interface=other.identity())
    shown, own = (_look(one, asked, world) for one, asked in (clean, (lm, trial)))
    if shown is None or own is None or not stronger(shown, own):
        return [clean, (lm, trial)]
    return [clean]


def _look(lm: LM, trial: Trial, world: World) -> Point | None:
    nothing = part("noop", catalogue.build("attack", "noop"))
    asked = replace(trial, attack=nothing, budget=Budget(steps=0), checkpoints=(0,), base="")
    points = attempt(lm, asked, world)[0].points
    return points[0] if points else None


def worst(found: list[AttackResult]) -> AttackResult:
    """The result that speaks most against the model."""
    return max(
        found,
        key=lambda one: (one.outcome == "breached", max(map(_or_zero, one.harm), default=0.0)),
    )


def _or_zero(harm: float | None) -> float:
    return harm or 0.0
