"""The columns of the table of pillars, declared once for every form of it, beside each pillar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

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
        return getattr(model.pillars[self.pillar], self.key)


class _Columns(Sequence[Column]):
    """The numbers of every pillar that there is by now, in order."""

    def __iter__(self) -> Iterator[Column]:
        for name, one in listed().items():
            for number in one.pillar.numbers:
                yield Column(name, number.key, number.title, number.form, number.says)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Column: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Column]: ...
    def __getitem__(self, index: int | slice) -> Column | Sequence[Column]:
        return tuple(self)[index]


class _Titles(Mapping[str, str]):
    """The title of every pillar that there is by now, by its name."""

    def __iter__(self) -> Iterator[str]:
        return iter(listed())

    def __len__(self) -> int:
        return len(listed())

    def __getitem__(self, name: str) -> str:
        return listed()[name].pillar.title


PILLARS = _Titles()
COLUMNS = _Columns()
