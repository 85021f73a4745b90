"""What every section asks of a verdict's models: their order, their names, their outcomes."""

from __future__ import annotations

from titer.pillars.generalisation import SharePoint
from titer.pillars.outcomes import RowResult
from titer.report.glossary import OUTCOMES, ROLES
from titer.report.numbers import tidy
from titer.verdict.parts import Imported, ModelVerdict, Verdict

__all__ = [
    "in_order",
    "lm_eval_name",
    "outcome",
    "outcome_counts",
    "share_name",
    "strong",
    "tested",
]


def in_order(verdict: Verdict) -> list[ModelVerdict]:
    """The defended models first, then the controls, and the references last."""
    order = list(ROLES)
    return sorted(verdict.models, key=lambda model: order.index(model.role))


def tested(verdict: Verdict) -> list[ModelVerdict]:
    """All models but the references, or the references where there is nothing else."""
    models = in_order(verdict)
    return [one for one in models if one.role in ("defended", "control")] or models


def outcome(attack: RowResult) -> str:
    """The outcome that counts, or nothing where there is none.

    A breach by one seed is a breach even where another seed failed; but what is failed or suspect
    was never survived, and a void attack says nothing at all.
    """
    name, kind = attack.outcome, attack.standing
    survived = name in ("held", "bricked") and kind == "failed"
    unsure = name == "held" and kind == "suspect"
    return "" if name not in OUTCOMES or kind == "void" or survived or unsure else name


def outcome_counts(model: ModelVerdict) -> dict[str, int]:
    """How many attacks ended in each outcome; those without one count as ``no result``."""
    counts = dict.fromkeys((*OUTCOMES, "no result"), 0)
    for attack in model.attacks.values():
        counts[outcome(attack) or "no result"] += 1
    return counts


def strong(model: ModelVerdict) -> str:
    """What the verdict says of strong resistance, never more than its first clause claims."""
    return tidy(model.resistance.strong or "not established")


def share_name(point: SharePoint) -> str:
    """``10 %``: how much of the hazard a defender had."""
    return f"{100 * point.share:g}\u202f%"


def lm_eval_name(one: Imported) -> str:
    """``gsm8k exact_match (strict-match)``; a filter that does nothing goes without saying."""
    name = f"{one.task} {one.metric}"
    return tidy(name if one.filter in ("", "none") else f"{name} ({one.filter})")
