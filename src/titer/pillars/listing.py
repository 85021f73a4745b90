"""The folder is the list: every module here with a ``PILLAR`` is a pillar of the verdict.

A pillar's module holds ``PILLAR``, what a reader sees of it, its title and its numbers, and
``score``, which makes it from what is known of a model; the type that ``score`` returns is the one
that a verdict is written as, and read back.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

import titer.pillars
from titer.core.forms import Form

__all__ = ["ByName", "Form", "Listed", "Number", "Pillar", "listed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number of a pillar in the table: the field of its result, how it is called, how it is
    written, and what it says."""

    key: str
    title: str
    form: Form
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pillar:
    """A pillar of the table. ``place`` orders pillars, the lowest first."""

    title: str
    place: int
    numbers: tuple[Number, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A pillar as its file has it; ``kind`` is what ``score`` returns."""

    name: str
    pillar: Pillar
    score: Callable[[Any], Any]
    kind: type[Any]


def listed() -> dict[str, Listed]:
    """Every pillar by the name of its module, in the order of the table."""
    names = [one.name for one in pkgutil.iter_modules(titer.pillars.__path__)]
    modules: list[Any] = [importlib.import_module(f"titer.pillars.{name}") for name in names]
    found = [_read(module) for module in modules if hasattr(module, "PILLAR")]
    return {one.name: one for one in sorted(found, key=lambda one: one.pillar.place)}


def _read(module: Any) -> Listed:
    return Listed(
        name=module.__name__.rpartition(".")[2],
        pillar=module.PILLAR,
        score=module.score,
        kind=_returned(module.score),
    )


@cache
def _returned(function: Callable[..., Any]) -> type[Any]:
    return get_type_hints(function)["return"]


class ByName:
    """Marks a mapping of what each pillar found, which is read back as the types that they have."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self._found)

    @staticmethod
    def _found(raw: Any) -> Mapping[str, Any]:
        kinds = tuple((name, one.kind) for name, one in listed().items())
        return _adapter(kinds).validate_python(raw)


@cache
def _adapter(kinds: tuple[tuple[str, type[Any]], ...]) -> Any:
    """Making one takes far longer than using it."""
    from pydantic import TypeAdapter
    from typing_extensions import TypedDict

    return TypeAdapter(TypedDict("Pillars", dict(kinds)))  # type: ignore[operator]
