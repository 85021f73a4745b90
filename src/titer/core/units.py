"""What a number counts: estimates and plain numbers by their unit, for whoever reads the types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from titer.core.records import Estimate

__all__ = [
    "BOUND",
    "CLAIM",
    "Claim",
    "Flops",
    "Harm",
    "Level",
    "Part",
    "Points",
    "Probability",
    "Ratio",
    "Seconds",
    "Share",
    "StepCount",
    "Steps",
    "Unit",
    "ZeroToOne",
]


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a field, in words."""

    words: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Marks what speaks for a defence. Where nothing may be claimed it is withheld; what is a
    ``bound`` is harm that attackers reached, and is then a lower bound of what there is."""

    bound: bool = False


CLAIM = Claim()
BOUND = Claim(bound=True)

Harm = Annotated[Estimate, Unit("harm, 0 to 1")]
"""A mean over held-out hazard items of what the measure of harm gives."""

Share = Annotated[Estimate, Unit("a share, 0 to 1")]
Points = Annotated[Estimate, Unit("a difference of scores, -1 to 1")]
ZeroToOne = Annotated[Estimate, Unit("0 undefended, 1 never learned")]
Ratio = Annotated[Estimate, Unit("a multiple of the undefended model's")]
Steps = Annotated[Estimate, Unit("optimiser steps")]
Level = Annotated[float, Unit("harm, 0 to 1")]
Part = Annotated[float, Unit("a share, 0 to 1")]
StepCount = Annotated[int, Unit("optimiser steps")]
Flops = Annotated[float, Unit("floating-point operations")]
Seconds = Annotated[float, Unit("seconds")]
Probability = Annotated[float, Unit("a p-value")]
