"""S13: one model asked twice must answer the same."""

from __future__ import annotations

import numpy as np

from titer.checks.case import Case, Check, Found, not_run, suspect
from titer.core.protocol import HARM

__all__ = ["CHECK", "read"]

CHECK = Check(
    id="S13",
    asks="Do two looks at the same weights agree?",
    measures="largest difference of any item between two looks",
    threshold="more than 1e-6",
    scope="all",
)


def read(case: Case) -> Found:
    """Flag, statistic and reason."""
    drift, trace = case.subject.drift, case.mine.weights
    known = case.subject.before
    asked_alike = trace is not None and trace.trial.interface == case.subject.interface
    if trace is not None and asked_alike and trace.points and known is not None:
        again = np.asarray(trace.points[0].scores.get(HARM, ()))
        if again.shape == known[0].shape:
            drift = max(drift or 0.0, float(np.abs(again - known[0]).max()))
    if drift is None:
        return not_run("the model was looked at once")
    return suspect(drift > 1e-6, drift, "two looks differ" if drift > 1e-6 else "")
