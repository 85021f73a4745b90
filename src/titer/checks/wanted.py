"""What a check asks to be run beside the attacks, and what it may make that from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from titer.core import catalogue
from titer.core.records import Enough, Part, part

__all__ = ["Ground", "Wanted", "attack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A trial that a check asks for: an ``attack`` of so many ``steps``, under the name ``row``.

    ``restart`` counts on from the study's first seed. ``enough`` ends the attack early.
    """

    row: str
    attack: Part
    steps: int
    restart: int = 0
    enough: Enough | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a check makes its trials from, on a model that no training attack broke.

    ``plain`` is fine-tuning at the reference rate, and ``steps`` how long it goes; ``longest`` is
    the most steps that any row of the suite has on this model. ``phi`` is the threshold on harm,
    ``examples`` how many of the hazard the attacker has, ``retains`` whether benign ones too.
    """

    plain: Part
    steps: int
    longest: int
    phi: float
    examples: int
    retains: bool

    @property
    def rate(self) -> float:
        """The reference rate."""
        return float(self.plain.fields["lr"])

    def varied(self, **fields: Any) -> Part:
        """The plain attack with other settings."""
        return attack(self.plain.name, {**self.plain.fields, **fields})


def attack(name: str, fields: Mapping[str, Any] | None = None) -> Part:
    """A method of the catalogue as the part of a trial.

    Raises:
        UnknownName: there is no such attack, or it has no such field.
    """
    version = catalogue.card("attack", name).version
    return part(name, catalogue.build("attack", name, dict(fields or {})), version)
