"""Generalisation: does resistance hold for data and hazards that the defender never saw?

Source: Rosati et al. 2024, arXiv:2402.16382 (in-domain and cross-domain generalisation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from titer.core import Estimate
from titer.pillars._statistics import missing
from titer.pillars.resistance import Resistance

__all__ = ["Generalisation", "generalisation"]

IN_DOMAIN = (
    "in-domain is R* on facts that neither defender nor attacker saw; "
    "the curve over the defender's share of the hazard was not measured"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalisation:
    """R* when immunised on one hazard and attacked on it, or on another.

    ``cross_domain`` maps ``"A->B"`` to R* when immunised on A and attacked on B, against chance
    where no model is there that never learned B; ``cross_harm`` holds W(T) of the same cells.
    """

    in_domain: Estimate
    cross_domain: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    cross_harm: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    off_diagonal_min: Estimate = field(default_factory=lambda: missing("not measured"))
    note: str = IN_DOMAIN


def generalisation(
    own: str, attacked: Mapping[str, Resistance], domains: tuple[str, ...]
) -> Generalisation:
    """One row of the cross-domain matrix.

    Args:
        own: The hazard that the subject was immunised on.
        attacked: Its resistance by the hazard it was attacked on; hazards not attacked are absent.
        domains: Every hazard of the study.
    """
    blank = missing("not attacked on this hazard")
    cross: dict[str, Estimate] = {}
    harm: dict[str, Estimate] = {}
    for other in domains:
        if other == own:
            continue
        found = attacked.get(other)
        cross[f"{own}->{other}"] = found.r_cross if found else blank
        harm[f"{own}->{other}"] = found.weak if found else blank
    known = [estimate for estimate in cross.values() if estimate.value is not None]
    if len(known) == len(cross) and known:
        least = min(known, key=lambda estimate: estimate.value or 0.0)
    elif not cross:
        least = missing("the study has one hazard")
    else:
        least = missing("some cells of the matrix are not known")
    mine = attacked.get(own)
    return Generalisation(
        in_domain=mine.r_star if mine else blank,
        cross_domain=cross,
        cross_harm=harm,
        off_diagonal_min=least,
    )
