"""S1: an adversary that does not work where nothing resists is evidence of nothing."""

from __future__ import annotations

from titer.checks.case import Case, Check, Found, not_run

__all__ = ["CHECK", "read"]

CHECK = Check(
    id="S1",
    asks="Does each attack work on the undefended model?",
    measures="share of adversaries that reach φ there with utility kept",
    threshold="four seeds of five; an adversary that does not is void",
)


def read(case: Case) -> Found:
    """Flag, statistic and reason."""
    bench = case.bench
    if bench.undefended is None:
        return not_run("the undefended model was not attacked")
    names = [row for row in case.subject.rows if row not in bench.unproved]
    void = [row for row in names if row in bench.void]
    if not names:
        return not_run("no adversary finished on the undefended model")
    share = 1 - len(void) / len(names)
    lost = f"void: {', '.join(void)}" if void else ""
    return ("void" if void else "valid"), share, lost
