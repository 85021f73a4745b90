"""A study as plain values, for ``config.yaml``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from titer.core import catalogue
from titer.grid.study import Study
from titer.grid.suite import judges
from titer.trial.presets import checkpoints

__all__ = ["describe"]


def describe(study: Study) -> dict[str, Any]:
    """What a report must know of a study beyond its traces, as plain values."""
    rows = []
    for row in study.rows():
        method, preset = row.preset()
        rows.append(
            {
                "id": row.id,
                "title": preset.title,
                "family": catalogue.card("attack", method).family,
                "source": preset.source,
                "mandatory": row.mandatory,
                "star": preset.star,
            }
        )
    return {
        "suite": study.suite.name,
        "suite_version": study.suite.version,
        "suite_hash": study.suite_digest,
        "suite_settings": study.suite.settings(),
        "rows": rows,
        "world": study.world.name,
        "world_source": study.source,
        "world_digest": study.world_digest,
        "judges": judges(study.world),
        "harm": study.world.harm,
        "chance": study.world.chance,
        "utility": {name: suite.chance for name, suite in study.world.utility.items()},
        "subjects": [asdict(subject) for subject in study.subjects],
        "seeds": list(study.seeds),
        "checkpoints": list(checkpoints(_longest(study))),
        "not_tested": _left_out(study),
        **({"locks": _locks(study)} if study.suite.controls else {}),
        "domains": [study.domain, *(d for d in study.world.hazards if d != study.domain)],
        "tasks": [
            {"name": name, "near_hazard": study.world.tasks[name].near_hazard}
            for name in study.tasks or tuple(study.world.tasks)
        ],
    }


def _locks(study: Study) -> dict[str, Any]:
    """The controls that must break, and for each model the one that it is without its lock."""
    families = {one.name: one.family for one in catalogue.summaries("defence")}
    bare = study.undefended().name
    unlocked: dict[str, str] = {}

    def without(text: str) -> tuple[str, ...]:
        return tuple(s for s in text.split("+") if s != "none" and families.get(s) != "lock")

    whole = {without(one.defence): one.name for one in study.subjects if one.defence}
    # Of two alike the suite's own: its weights are the very ones that its controls lock.
    whole |= {without(text): text for text in (study.suite.unlocked,) if text}
    for subject in study.subjects:
        if subject.role in ("defended", "control") and subject.share is None:
            locked = any(families.get(stage) == "lock" for stage in subject.defence.split("+"))
            rest = without(subject.defence)
            unlocked[subject.name] = whole.get(rest, bare) if locked and rest else bare
    return {"controls": list(study.suite.controls), "unlocked": unlocked}


def _longest(study: Study) -> int:
    size = study.undefended().parameters
    return max((study.suite.steps(row, size) for row in study.rows()), default=0)


def _left_out(study: Study) -> list[str]:
    """Rows in the catalogue that this suite leaves out, in one phrase."""
    inside = {row.of or row.id for row in study.rows()}
    known = set(catalogue.presets("attack"))
    outside = len(known - inside)
    found = [f"{outside} of the catalogue's {len(known)} rows"] if outside else []
    if study.suite.cap is not None:
        found.append(f"budgets beyond {study.suite.cap:,} steps")
    return found
