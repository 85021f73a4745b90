"""The columns of the four-pillar table, declared once for every form of it."""

from __future__ import annotations

from dataclasses import dataclass

from titer.core.records import Estimate
from titer.report.numbers import Form
from titer.verdict.parts import ModelVerdict

__all__ = ["COLUMNS", "PILLARS", "Column"]


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a model: where it is, how it is called and how it is written."""

    pillar: str
    key: str
    title: str
    form: Form
    says: str

    def of(self, model: ModelVerdict) -> Estimate:
        """The number of one model."""
        return getattr(getattr(model.pillars, self.pillar), self.key)


PILLARS = {
    "resistance": "Resistance",
    "erasure": "Erasure",
    "stability": "Stability",
    "generalisation": "Generalisation",
    "trainability": "Trainability",
}
COLUMNS = (
    Column("resistance", "baseline_harm", "Harm before", "score", "before any attack"),
    Column("resistance", "weak", "Worst harm", "score", "W(B): worst attack that keeps utility"),
    Column("resistance", "weak_unconstrained", "… any utility", "score", "utility ignored"),
    Column("resistance", "work_factor_min", "Work factor", "ratio", "steps against undefended"),
    Column("resistance", "r_star", "R*", "score", "0 undefended, 1 never learned"),
    Column("erasure", "rtt", "Came back", "score", "of what was hidden, from unrelated facts"),
    Column("stability", "worst_delta", "Utility", "points", "worst suite, in points"),
    Column("stability", "over_refusal", "Over-refusal", "percent", "benign requests refused"),
    Column("generalisation", "in_domain", "In domain", "score", "R* on the domain immunised"),
    Column("generalisation", "off_diagonal_min", "Across", "score", "worst R* on other domains"),
    Column("trainability", "ratio", "Benign steps", "ratio", "to learn a task, against undefended"),
)
