"""The checks of one model: each one's answer, and the doubts that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from titer.checks.case import Case, Finding, inspect
from titer.checks.listing import Listed, listed
from titer.core.study import Manifest, Subject
from titer.evidence.arena import Arena
from titer.evidence.curves import Doubt, Scope
from titer.evidence.doubts import calibration_scores

__all__ = ["doubts", "examine", "examined", "flags", "forbidding", "settled"]


def examined(study: Manifest, subject: Subject, arena: Arena) -> tuple[Finding, ...]:
    """The checks of one model; the never-learned one is a reference and has none."""
    undefended = study.reference("undefended", arena.domain)
    if subject.role == "oracle" or undefended is None:
        return ()
    parts = (arena.domain, study.seeds, arena.bench.grid[1])
    case = Case(
        subject=arena.evidence(subject.name),
        bench=arena.bench,
        mine=inspect(arena.traces, subject.name, *parts),
        base=inspect(arena.traces, undefended.name, *parts),
        changed=subject.role != "undefended",
        same=subject.digest == undefended.digest,
        differs=subject.differs,
        sweeps=calibration_scores(arena.traces, undefended.name),
    )
    return examine(case)


def examine(case: Case) -> tuple[Finding, ...]:
    """All of them, in order."""
    return tuple(_finding(one, case) for one in listed())


def _finding(one: Listed, case: Case) -> Finding:
    flag, statistic, reason = one.read(case)
    known = statistic is not None and math.isfinite(statistic)
    return Finding(
        id=one.check.id,
        flag=flag,
        statistic=statistic if known else None,
        reason=reason,
        question=one.check.asks,
        measures=one.check.measures,
        threshold=one.check.threshold,
    )


def doubts(findings: Sequence[Finding]) -> tuple[Doubt, ...]:
    """What the suspect ones hold against the adversaries in their scope."""
    scopes: dict[str, Scope | None] = {one.check.id: one.check.scope for one in listed()}
    return tuple(
        Doubt(check=one.id, scope=scope, reason=one.reason)
        for one in findings
        if one.flag == "suspect" and (scope := scopes[one.id])
    )


def forbidding(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What the suspect ones say that allow no claim about the model."""
    withhold = {one.check.id for one in listed() if one.check.withholds}
    return tuple(
        f"{one.id} {one.reason}" for one in findings if one.flag == "suspect" and one.id in withhold
    )


def flags(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What a reader is told first of a model, by its suspect ones."""
    says = {one.check.id: one.check.flag for one in listed()}
    return tuple(says[one.id] for one in findings if one.flag == "suspect" and says[one.id])


def settled(findings: Sequence[Finding], caught: bool | None) -> tuple[Finding, ...]:
    """The findings once it is known whether the known-broken controls were ``caught``; None where
    the study has none."""
    if caught is None:
        return tuple(findings)
    settle = {one.check.id: one.settle for one in listed()}
    return tuple(one if not (by := settle[one.id]) else by(one, caught) for one in findings)
