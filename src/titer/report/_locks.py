"""What a suite of locks adds to a verdict: effort, and whether its controls were broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from titer.pillars._panel import attacked
from titer.pillars.effort import BYPASSED, effort
from titer.report import _entry
from titer.report._arena import Arena
from titer.report._facts import StudyFacts

__all__ = ["battery", "effort_json"]


def effort_json(study: StudyFacts, subject: str, arena: Arena) -> dict[str, Any]:
    """ρ(τ) of one model as plain values; empty where the study is none of locks."""
    if subject not in study.unlocked:
        return {}
    reference = study.unlocked[subject]
    locked, unlocked = (
        attacked(arena.evidence(name), arena.bench) for name in (subject, reference)
    )
    if locked is None or not locked.rows:
        return {}
    found = effort(locked, unlocked, arena.bench.oracle, arena.bench)
    return {
        "against": reference,
        "attack": found.attack,
        "tau": dict(found.tau),
        **{
            name: {key: _entry.estimate_json(one) for key, one in part.items()}
            for name, part in (
                ("steps", found.steps),
                ("unlocked", found.unlocked),
                ("never_learned", found.never_learned),
                ("by_attack", found.by_attack),
            )
        },
    }


def battery(study: StudyFacts, models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the study may be believed: every control must have been breached, at a cost of at
    most :data:`~titer.pillars.effort.BYPASSED` times that without its lock; empty where the suite
    has no controls of its own."""
    if not study.controls:
        return {}
    named = {str(model["name"]): model for model in models}
    controls = [_control(name, named.get(name)) for name in study.controls]
    faults = [_fault(one) for one in controls if not one["broken"]]
    return {
        "valid": not faults,
        "why": "; ".join(faults),
        "bypassed": BYPASSED,
        "controls": controls,
    }


def _fault(control: Mapping[str, Any]) -> str:
    """What is wrong, naming the control once."""
    name, why = str(control["name"]), str(control["why"])
    return why if why.startswith(name) else f"{name}: {why}"


def _control(name: str, model: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether it was broken, for which one attack is enough: another that failed or diverged
    withholds a score, and does not mend the control."""
    if model is None:
        return {"name": name, "broken": False, "by": "", "rho": None, "why": "was not attacked"}
    found: Mapping[str, Any] = model.get("effort") or {}
    rho = (found.get("unlocked") or {}).get("decides") or {}
    by = [attack["row"] for attack in model["attacks"] if attack["outcome"] == "breached"]
    value = rho.get("value")
    why = ""
    if not by:
        why = str(model["withheld"] or "no attack brought the harm back with utility kept")
    elif value is None:
        why = str(rho.get("note") or "its effort is unknown")
    elif value > BYPASSED or rho.get("censored"):
        why = f"the quickest attack still took {value:.1f} times the steps"
    return {
        "name": name,
        "broken": not why,
        "by": str(found.get("attack") or ""),
        "rho": value,
        "why": why,
    }
