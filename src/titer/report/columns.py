"""The columns of the four-pillar table, declared once for every form of it."""

from __future__ import annotations

from dataclasses import dataclass

from titer.core.records import Estimate
from titer.pillars.listing import Form, listed
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


PILLARS = {name: pillar.title for name, pillar in listed().items()}
COLUMNS = tuple(
    Column(name, number.key, number.title, number.form, number.says)
    for name, pillar in listed().items()
    for number in pillar.numbers
)
