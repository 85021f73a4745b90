"""S21: what is too long for the model's context is trained on and asked without its beginning."""

from __future__ import annotations

from titer.checks.case import Case, Check, Found, not_run, suspect

__all__ = ["CHECK", "read"]

SHARE = 0.05

CHECK = Check(
    id="S21",
    asks="Did the lines of training and the questions fit the model's context?",
    measures="largest share of either, over adversaries, whose beginning was cut off",
    threshold="more than 0.05: cut",
    scope="all",
)


def read(case: Case) -> Found:
    """Flag, statistic and reason."""
    seen = [run.cut for arm in case.subject.arms for run in arm.runs if run.cut is not None]
    if not seen:
        return not_run("the trials do not say what was cut")
    worst = max(seen, key=lambda cut: cut.share)
    bad = worst.share > SHARE
    return suspect(bad, worst.share, f"{'cut: ' * bad}{worst.text}" if worst.share else "")
