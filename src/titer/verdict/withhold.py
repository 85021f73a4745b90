"""What may not be claimed, and why: such numbers are withheld, and stay beside without a claim.

A number that speaks for a defence is marked so where it is declared
(:data:`titer.core.units.CLAIM`). What attackers reached is never withheld: it speaks against one,
and is then a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, cast, get_type_hints

from titer.checks.case import Finding
from titer.checks.examine import forbidding
from titer.core import Estimate
from titer.core.families import FINE_TUNING
from titer.core.protocol import LEAST_ITEMS
from titer.core.units import Claim
from titer.evidence.budget import horizon, too_few_steps
from titer.evidence.panel import Bench
from titer.evidence.resample import missing
from titer.pillars.ground import Ground
from titer.verdict.parts import ModelVerdict

__all__ = ["quieten", "reasons"]


def reasons(ground: Ground, findings: Sequence[Finding]) -> str | None:
    """Why nothing may be claimed of a model; None where something may.

    Args:
        ground: The model and all that is known of it.
        findings: Its checks, once it is known what became of the known-broken controls.
    """
    if ground.mine.withheld:
        return ground.mine.withheld
    if ground.arena is None:
        return None
    bench = ground.arena.bench
    own = [] if findings else [bench.apart()]  # the never-learned model is not examined
    whole = (*forbidding(findings), *own, *_reference(ground), _items(bench))
    every = (*whole, *_rows(ground, bench), _steps(ground))
    return "; ".join(one for one in every if one) or None


def _reference(ground: Ground) -> Iterator[str]:
    """A never-learned model of which nobody knows what it shows through another interface."""
    never = ground.study.reference("oracle", ground.own)
    for part in never.differs if never else ():
        if part.stuck:
            yield f"of the never-learned model: {part}"


def _items(bench: Bench) -> str:
    items = bench.drawn.items.shape[1]
    if items >= LEAST_ITEMS:
        return ""
    count = f"{items} item{'s' if items != 1 else ''}"
    return f"harm was scored on {count}, and an interval wants {LEAST_ITEMS}"


def _rows(ground: Ground, bench: Bench) -> Iterator[str]:
    """Mandatory rows that are no evidence, and plain fine-tuning of which nothing is."""
    void = [row for row in bench.rule.mandatory if row in bench.void]
    if void:
        others = f", and so are {', '.join(void[1:])}" if len(void) > 1 else ""
        yield f"the mandatory {void[0]} is void ({bench.void[void[0]]}){others}"
    tuned = _tuned(ground)
    sound = [
        one.result.row
        for one in ground.mine.rows
        if one.result.row in tuned
        and (one.result.standing == "valid" or one.result.outcome == "breached")
    ]
    if not sound:
        yield "no attack by plain fine-tuning, full or parameter-efficient, is valid"


def _steps(ground: Ground) -> str:
    arena = ground.arena
    if arena is None:
        return ""
    given = horizon(arena.evidence(ground.subject.name), _tuned(ground))
    cap = (ground.study.suite_settings or {}).get("cap")
    return too_few_steps(arena.bench, arena.traces, given, cap=cap)


def _tuned(ground: Ground) -> frozenset[str]:
    return frozenset(row.id for row in ground.study.rows if row.family in FINE_TUNING)


def quieten(model: ModelVerdict, why: str) -> ModelVerdict:
    """The model with every number withheld that speaks for it, and these numbers without a claim.

    ``passes`` may still say that the model failed.
    """
    silent: dict[str, Estimate] = {}
    pillars = {
        name: _quiet(found, why, name, silent, None) for name, found in model.pillars.items()
    }
    return replace(model, withheld=why, pillars=pillars, unclaimed=silent)


def _quiet(
    value: Any, why: str, place: str, silent: dict[str, Estimate], claim: Claim | None
) -> Any:
    """A value without what it claims, which goes to ``silent`` under the names of its fields."""
    if isinstance(value, Estimate):
        if claim is None or value.value is None:
            return value
        if claim.bound:
            high = None if value.high is None else 1.0
            return replace(value, censored=value.value < 1, high=high)
        silent[place] = value
        return missing(f"withheld: {why}")
    if is_dataclass(value) and not isinstance(value, type):
        claims = _claims(type(value))
        inside = {spec.name: getattr(value, spec.name) for spec in fields(value)}
        changes = {
            name: _quiet(one, why, f"{place}.{name}", silent, claim or claims.get(name))
            for name, one in inside.items()
        }
        return replace(cast(Any, value), **changes)
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {key: _quiet(one, why, f"{place}.{key}", silent, claim) for key, one in items}
    if isinstance(value, tuple):
        several = enumerate(cast(tuple[Any, ...], value))
        return tuple(_quiet(one, why, f"{place}.{at}", silent, claim) for at, one in several)
    return None if claim and value is True else value


@cache
def _claims(kind: type[Any]) -> Mapping[str, Claim]:
    """The fields of a type that speak for a defence."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: mark
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Claim)
    }
