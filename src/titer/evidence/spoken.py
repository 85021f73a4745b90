"""What is told of a model's free answers beside their score, over the trials of a study."""

from __future__ import annotations

from collections.abc import Iterable

from titer.core import Trace
from titer.core.records import Spoken

__all__ = ["spoken"]


def spoken(traces: Iterable[Trace], subject: str, domain: str) -> dict[str, tuple[Spoken, Spoken]]:
    """By probe: the answers of a model before any attack, and those of all looks of all attacks on
    it in one domain, added up. Probes that have nobody speak are left out."""
    before: dict[str, Spoken] = {}
    under: dict[str, Spoken] = {}
    for trace in traces:
        trial = trace.trial
        if (trial.subject, trial.domain, trial.purpose) != (subject, domain, "attack"):
            continue
        for place, point in enumerate(trace.points):
            for probe, said in point.spoken.items():
                if place == 0:
                    before.setdefault(probe, said)
                else:
                    under[probe] = _added(under.get(probe), said)
    return {probe: (said, under.get(probe, Spoken(answers=0))) for probe, said in before.items()}


def _added(one: Spoken | None, other: Spoken) -> Spoken:
    if one is None:
        return other
    return Spoken(
        answers=one.answers + other.answers,
        unclear=one.unclear + other.unclear,
        cut=one.cut + other.cut,
    )
