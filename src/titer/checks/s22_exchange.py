"""S22: an attacker asks through his own interface; what cannot be asked so is not known."""

from __future__ import annotations

from titer.checks.case import Case, Check, Found, suspect

__all__ = ["CHECK", "read"]

CHECK = Check(
    id="S22",
    asks="Can the model be asked through the undefended model's interface?",
    measures="parts of tokenizer and configuration that cannot be exchanged",
    threshold="any",
    scope="all",
    flag="interface unknown",
    withholds=True,
)


def read(case: Case) -> Found:
    """Flag, statistic and reason."""
    if not case.changed:
        return "valid", None, "the reference of the others"
    stuck = [part.says for part in case.differs if part.stuck]
    said = f"interface-unknown: {'; '.join(stuck)}" if stuck else "all can be exchanged"
    return suspect(bool(stuck), float(len(stuck)), said)
