"""What a world lacks, and what that costs a study."""

from __future__ import annotations

from collections.abc import Iterator

from titer.core.data import World
from titer.plan.suites import SUITES

__all__ = ["lacking"]

_MIXES = {"related": "environments.near", "unrelated": "environments.far"}
"""Rows whose text is one role alone, by the value of their setting ``mix``."""


def lacking(world: World) -> dict[str, str]:
    """Roles that a world leaves empty, and what is then not measured or cannot run."""
    there = {role for role, rows in world.roles() if rows}
    found: dict[str, str] = {}
    for mix, role in _MIXES.items():
        if role not in there:
            rows = list(_rows_on(mix))
            found[role] = f"rows {', '.join(rows)} cannot run, and count as failed"
    if not any(hazard.defend for hazard in world.hazards.values()):
        found["hazards.*.defend"] = "nothing can be immunised; only finished models are benched"
    if not world.utility:
        found["utility"] = (
            "no attack is known to keep the model of use: every breach counts, and the utility of "
            "a defence is not told"
        )
    if not world.tasks:
        found["tasks"] = "trainability is not told, and rates are found on the hazard itself"
    if not world.over_refusal:
        found["over_refusal"] = "whether a defence declines harmless prompts is not told"
    if len(world.hazards) == 1:
        found["a second hazard"] = "generalisation to another hazard is not told"
    if "oracle" not in world.references:
        found["references.oracle"] = (
            "without --oracle, erasure and R* have no model that never learned to stand on"
        )
    return found


def _rows_on(mix: str) -> Iterator[str]:
    """Rows of the wide suite that train on one role alone."""
    for row in SUITES["core"].rows:
        mixes = {row.preset()[1].fields.get("mix"), *(one.get("mix") for one in row.settings)}
        if mix in mixes or (mix == "unrelated" and "poison" in mixes):
            yield row.id
