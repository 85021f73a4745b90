"""How what a measure found inside a model is shown: said by the measure, on its card.

A quantity is named as the measure's readings name it. Where a name is not known beforehand, since
the measure takes it of several things, ``{}`` stands for what differs: ``cos(τ_u, τ_ft), {}``.
"""

from __future__ import annotations

from dataclasses import dataclass

from titer.core.forms import Form

__all__ = ["Column", "Reader", "Shown", "Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A quantity in a table, of the whole model: how it is called, what it says, how it is
    written."""

    what: str
    title: str
    says: str
    form: Form = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Models by quantities. ``place`` orders tables, the lowest first, and what several measures
    put under one ``title`` is one table. A ``{}`` in it gives a table for each thing that differs.

    ``by_place``: the one column is taken once for the whole model and once for each place.
    """

    title: str
    place: int
    columns: tuple[Column, ...]
    about: str = ""
    by_place: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A measure that reads hidden facts, as an accuracy by layer: the quantity, the reader's name
    in a sentence (*the linear probe*), and ``spoken``, what the model says of itself when asked
    (empty where the measure does not ask).

    Where it reads more of a model than of one that never learned, the model's facts are there.
    """

    what: str
    name: str
    spoken: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a report shows of a measure beside the list of its readings."""

    tables: tuple[Table, ...] = ()
    reader: Reader | None = None
