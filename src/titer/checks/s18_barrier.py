"""S18: a barrier on the way of an attack is one that an attacker can go round."""

from __future__ import annotations

from collections.abc import Mapping

from titer.checks.case import Case, Check, Found, not_run, suspect
from titer.checks.reading import logs_of

__all__ = ["CHECK", "read"]

CHECK = Check(
    id="S18",
    asks="Does the loss fall along the straight line of an attack?",
    measures="height of the barrier over both ends, as a share of the loss at the start",
    threshold="more than 0.2, and more than the undefended model's",
    scope="trains",
)

BARRIER = 0.2


def read(case: Case) -> Found:
    """Flag, statistic and reason."""
    mine, fault = logs_of(case.mine.paths, "line:0")
    base, _ = logs_of(case.base.paths, "line:0")
    if fault:
        return not_run(fault)
    own, zero = _height(mine), _height(base) if base else 0.0
    text = f"undefended {zero:.2f}"
    return suspect(own > BARRIER and own > zero, own, f"barrier of {own:.2f}; {text}")


def _height(found: Mapping[str, float]) -> float:
    line = {float(name[5:]): loss for name, loss in found.items() if name.startswith("line:")}
    ends = max(line[0.0], line[1.0])
    return max(0.0, max(line.values()) - ends) / max(line[0.0], 0.1)
