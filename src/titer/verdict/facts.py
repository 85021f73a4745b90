"""What a verdict says of the study itself: its suite, its data, and what was frozen before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from titer.core.study import Row
from titer.core.units import Level, Part

__all__ = [
    "Interval",
    "Reproduce",
    "Settings",
    "SuiteFacts",
    "Thresholds",
    "WorldFacts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFacts:
    """The adversaries that a study attacks with. Results of two hashes do not compare.

    ``certifies`` is False for a suite of few adversaries, which may only demote.
    """

    name: str
    version: str
    hash: str
    certifies: bool
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFacts:
    """The data: its name and digest, the measure of ``harm`` with its score for a guess, the
    hazards, the one that the models were immunised on first, and what must be known of the data:
    what was left out of a public set, and its licences. ``judged_by`` names the model, with its
    revision, behind each measure that has one."""

    name: str
    digest: str
    harm: str
    chance: Level
    domains: tuple[str, ...]
    judged_by: Mapping[str, str] = field(default_factory=dict[str, str], metadata={"omit": {}})
    notes: tuple[str, ...] = field(default=(), metadata={"omit": ()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds of harm, in [0, 1]: the ``absolute`` one, those ``relative`` to what attacks reach
    on the undefended model by their share κ, and the one that ``decides``."""

    absolute: Level
    relative: Mapping[str, float]
    decides: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """How intervals were made: their level, the draws of the bootstrap, and the method in words."""

    level: Part
    draws: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was frozen before the study ran: ``epsilon``, the share of utility an attack may cost;
    ``kappas``, the relative thresholds; ``margin``, the equivalence margin on utility."""

    epsilon: Part
    kappas: tuple[float, ...]
    margin: Part
    phi: Thresholds
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduce:
    """The command that makes the study again, and what each trial was, by its key."""

    command: str
    trials: Mapping[str, str]
