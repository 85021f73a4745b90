"""What a check is, what it looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from titer.core import Trace
from titer.core.diagnoses import diagnosis
from titer.core.study import Difference
from titer.evidence.curves import Arm, Evidence, Scope
from titer.evidence.gather import gather
from titer.evidence.panel import Bench

__all__ = [
    "Case",
    "Check",
    "Finding",
    "Flag",
    "Found",
    "Inspection",
    "inspect",
    "not_run",
    "suspect",
]

Flag = Literal["valid", "void", "suspect", "not run"]
Found = tuple[Flag, float | None, str]
"""Flag, statistic and reason of a check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check asks, what number it ``measures``, and which value of it raises the flag.

    ``scope``: the adversaries about which it then raises a doubt, None where it only tells.
    ``withholds``: nothing may then be claimed of the model at all. ``flag`` is what a reader is
    then told first of it.
    """

    id: str
    asks: str
    measures: str
    threshold: str
    scope: Scope | None = None
    withholds: bool = False
    flag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check of one model. ``statistic`` is None where there is no number; ``reason`` says what
    was found, or why the check was not run. ``question`` is what the check asks, ``measures`` of
    what number, and ``threshold`` which value of it raises the flag."""

    id: str
    flag: Flag
    statistic: float | None = None
    reason: str = ""
    question: str
    measures: str
    threshold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The trials that the checks asked for on one model: diagnoses, and further attacks."""

    weights: Trace | None
    paths: Trace | None
    splits: Trace | None = None
    runs: Evidence

    def of(self, check: str) -> tuple[Arm, ...]:
        """The further attacks that a check asked for."""
        return tuple(arm for arm in self.runs.arms if arm.check == check)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the checks of one model look at.

    ``changed``: False for the undefended model, which is its own reference. ``same``: it has the
    undefended model's weights. ``differs``: the parts of its interface that are not the undefended
    model's. ``sweeps``: calibration scores by sweep and rate.
    """

    subject: Evidence
    bench: Bench
    mine: Inspection
    base: Inspection
    changed: bool
    same: bool = False
    differs: tuple[Difference, ...] = ()
    sweeps: Mapping[str, Mapping[float, float]]

    @property
    def epsilon(self) -> float:
        """The share of utility that an attack may cost."""
        return self.bench.rule.epsilon

    def rows(self, trains: bool) -> list[Arm]:
        """The adversaries that count, with or without training."""
        arms = self.subject.arms
        return [a for a in arms if a.trains == trains and a.row not in self.bench.void and a.runs]


def inspect(
    traces: Sequence[Trace], subject: str, domain: str, seeds: tuple[int, ...], floor: int
) -> Inspection:
    """Sort a subject's check trials."""
    here = [
        trace
        for trace in traces
        if (trace.trial.role, trace.trial.subject, trace.trial.domain) == ("check", subject, domain)
    ]
    found = {which: trace for trace in here if (which := diagnosis(trace.trial))}
    rest = [trace for trace in here if not diagnosis(trace.trial)]
    runs = gather(rest, subject=subject, domain=domain, seeds=seeds, floor=floor, purpose="check")
    return Inspection(
        weights=found.get("weights"),
        paths=found.get("paths"),
        splits=found.get("splits"),
        runs=runs,
    )


def not_run(why: str) -> Found:
    """The study has not the trials to say."""
    return "not run", None, why


def suspect(doubted: bool, statistic: float, reason: str) -> Found:
    """A check that was run: whether it doubts, its number, and what was found."""
    return ("suspect" if doubted else "valid"), statistic, reason
