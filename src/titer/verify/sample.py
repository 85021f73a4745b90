"""Which trials of a run folder are run again: drawn so that no model and no row is passed over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from titer.core.diagnoses import diagnosis
from titer.core.errors import BadInput
from titer.core.method import seed_for
from titer.core.records import Trace
from titer.run.sound import untouched

__all__ = ["Sample", "draw"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The trials that are run again: ``looks`` at models as they were released, which cost no
    training and are always among them, and ``drawn`` of the ``total`` others. ``chance`` is the
    least that one of these had to be drawn, in [0, 1]."""

    looks: tuple[str, ...]
    drawn: tuple[str, ...]
    total: int
    chance: float

    @property
    def keys(self) -> list[str]:
        """All of them, by key."""
        return sorted((*self.looks, *self.drawn))


def draw(traces: Mapping[str, Trace], share: float, seed: int) -> Sample:
    """A random part of the finished trials, at least one; the same seed gives the same part.

    The trials lie side by side by model and within a model by row, all in random order, and are
    cut into groups of like size, from each of which one is drawn. So a trial has the chance that
    ``share`` says, and trials of one model or one row are hardly missed together: of k trials at
    least one is drawn with a chance of 1 − (1 − chance)^k or more.

    Raises:
        BadInput: a share outside (0, 1], or nothing to draw from.
    """
    if not 0 < share <= 1:
        raise BadInput(f"--sample {share:g}: give a share above 0 and up to 1, as in 0.1.")
    if not traces:
        raise BadInput("the run folder has no finished trial; run its bench command first.")
    looks = tuple(sorted(key for key, trace in traces.items() if _is_look(trace)))
    rest = [key for key in traces if key not in set(looks)]
    if not rest:
        return Sample(looks=looks, drawn=(), total=0, chance=1.0)
    random = Random(seed_for(seed, "verify"))
    groups = list(_groups(_laid_out(traces, rest, random), share, random))
    return Sample(
        looks=looks,
        drawn=tuple(sorted(random.choice(group) for group in groups)),
        total=len(rest),
        chance=1 / max(map(len, groups)),
    )


def _is_look(trace: Trace) -> bool:
    """Whether a trial only asks a model as it was released, and does not train."""
    return untouched(trace.trial) and diagnosis(trace.trial) != "paths"


def _laid_out(traces: Mapping[str, Trace], keys: Sequence[str], random: Random) -> list[str]:
    """The keys by model, and within a model by row; models, rows and trials in random order."""
    places: dict[str, dict[tuple[str, str, str, str], list[str]]] = {}
    for key in sorted(keys):
        trial = traces[key].trial
        row = (trial.role, trial.check, trial.row, trial.domain)
        places.setdefault(trial.model, {}).setdefault(row, []).append(key)
    found: list[str] = []
    for rows in _shuffled(list(places.values()), random):
        for cell in _shuffled(list(rows.values()), random):
            found += _shuffled(cell, random)
    return found


def _shuffled(given: Sequence[T], random: Random) -> list[T]:
    return random.sample(list(given), len(given))


def _groups(ordered: Sequence[str], share: float, random: Random) -> Iterator[Sequence[str]]:
    """Neighbours, as many groups as trials are to be drawn; none holds more than 1/share, rounded
    up."""
    count = math.ceil(share * len(ordered) - 1e-9)
    size, more = divmod(len(ordered), count)
    start = 0
    for longer in _shuffled([True] * more + [False] * (count - more), random):
        end = start + size + longer
        yield ordered[start:end]
        start = end
