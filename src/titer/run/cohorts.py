"""Which trials train together: those of one model whose methods say so, as many as pay."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from titer.core import catalogue
from titer.core.records import Trial
from titer.plan.experiment import Experiment
from titer.train.candidates import COPIES, fill

__all__ = ["cohorts", "joins", "room"]

_LOOKED_AT = 50
"""Examples that are looked at for their length."""


def cohorts(trials: Sequence[Trial], room: Callable[[Trial], int]) -> list[list[Trial]]:
    """Trials in groups that may train in one pass; a trial whose method shares nothing is alone.

    The groups depend on the trials and on nothing else, neither the machine nor what is done
    already. Trials of like length are put together, and groups of one kind are evenly filled.
    """
    kinds: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        kinds.setdefault(_kind(trial), []).append(trial)
    found: list[list[Trial]] = []
    for alike in kinds.values():
        ranked = sorted(alike, key=lambda trial: -(trial.budget.steps or 0))
        groups = -(-len(ranked) // max(1, min(map(room, ranked))))
        size, more = divmod(len(ranked), groups)
        start = 0
        for index in range(groups):
            end = start + size + (index < more)
            found.append(ranked[start:end])
            start = end
    return found


def _kind(trial: Trial) -> Hashable:
    method: Any = catalogue.build("attack", trial.attack.name, dict(trial.attack.fields))
    share = getattr(method, "share", None)
    own = trial.key if share is None else ""
    return trial.model, trial.interface, trial.world, trial.attack.name, share, own


def joins(trial: Trial, parameters: int) -> bool:
    """Whether trials like this one may share a pass on a model of this size at all."""
    method: Any = catalogue.build("attack", trial.attack.name, dict(trial.attack.fields))
    copies = getattr(method, "parameters", "") != "lora"
    return hasattr(method, "finetuning") and not (copies and parameters > COPIES)


def room(study: Experiment, parameters: int, trial: Trial) -> int:
    """How many trials like this one pay in one pass."""
    method: Any = catalogue.build("attack", trial.attack.name, dict(trial.attack.fields))
    batch = getattr(method, "batch_size", 0)
    if not batch or getattr(method, "share", None) is None:
        return 1
    world = study.world
    examples = (
        world.tasks[trial.task].train if trial.task else world.hazards[trial.domain].attack
    )[:_LOOKED_AT]
    words = sum(len(f"{e.prompt} {e.answer}".split()) for e in examples) / max(1, len(examples))
    return fill(batch * (words + 4), parameters, adapters=method.parameters == "lora")
