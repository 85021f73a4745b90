"""S3: a rate at the edge of its sweep may not be the best one."""

from __future__ import annotations

from titer.checks.case import Case, Check, Found, not_run, suspect
from titer.evidence.doubts import at_edge, sweep_edge

__all__ = ["CHECK", "read"]

CHECK = Check(
    id="S3",
    asks="Is the best learning rate inside the range that was tried?",
    measures="sweeps of three rates or more whose best is the first or the last, or all of which "
    "cost the model its use",
    threshold="any, where no inner rate comes within 0.02 and two standard errors",
)


def read(case: Case) -> Found:
    """Flag, statistic and reason."""
    swept = {
        row: sweep_edge(case.subject.candidates(row), case.subject, case.epsilon)
        for row in case.subject.rows
        if len({arm.rate for arm in case.subject.candidates(row)}) > 2
    }
    swept |= {name: at_edge(scores) for name, scores in case.sweeps.items() if len(scores) > 2}
    if not swept:
        return not_run("no rate was swept")
    bad = [f"{name} {doubt.reason}" for name, doubt in swept.items() if doubt]
    return suspect(bool(bad), float(len(bad)), "; ".join(bad) or f"of {len(swept)} sweeps")
