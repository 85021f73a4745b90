"""Values as JSON and back: one way for everything that titer writes down and reads again.

A value is a frozen dataclass of plain types, tuples, mappings and other values. What its fields say
is all there is: two words in a field's ``metadata`` change how it is written.

* ``omit``: the field is left out where it equals this.
* ``blank``: None is written as this.

A class may name properties in ``PRINTED``: they are written for people and other programs, and not
read back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import PurePath
from typing import Any, ClassVar, TypeVar, cast

from titer.core.errors import BadInput

__all__ = ["Keyed", "from_json", "settle", "to_json"]

T = TypeVar("T")
_NOTHING = object()


class Keyed:
    """Marks a mapping that is written as a list of its values, each of which knows its key."""

    def __init__(self, by: str) -> None:
        self.by = by

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self._named, handler(source))

    def _named(self, raw: Any) -> Any:
        if not isinstance(raw, list):
            return raw
        entries = cast(list[Any], raw)
        if not all(isinstance(one, Mapping) and self.by in one for one in entries):
            raise ValueError(f"an entry has no {self.by}")
        return {str(one[self.by]): one for one in entries}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, PurePath) else _finite(value)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def settle(value: T) -> T:
    """The value with every number that is none, infinite or not a number, as None: what JSON can
    hold, and what comes back from it."""
    return cast(T, _settled(value))


def _settled(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _settled(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, Mapping):
        return {key: _settled(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, tuple):
        return tuple(_settled(item) for item in cast(Iterable[Any], value))
    return _finite(value)


def to_json(value: Any) -> Any:
    """Plain JSON values. A number that is infinite or not a number is null, a path a string."""
    if is_dataclass(value) and not isinstance(value, type):
        return _written(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in cast(Iterable[Any], value)]
    return _plain(value)


def _written(value: Any) -> dict[str, Any]:
    keyed = _keyed(cast(type[Any], type(value)))
    content: dict[str, Any] = {}
    for spec in fields(value):
        item = getattr(value, spec.name)
        if item == spec.metadata.get("omit", _NOTHING):
            continue
        if item is None and "blank" in spec.metadata:
            item = spec.metadata["blank"]
        elif spec.name in keyed:
            item = list(cast(Mapping[str, Any], item).values())
        content[spec.name] = to_json(item)
    printed: Iterable[str] = getattr(value, "PRINTED", ())
    return content | {name: to_json(getattr(value, name)) for name in printed}


@cache
def _keyed(kind: type[Any]) -> frozenset[str]:
    from typing import get_type_hints

    hints = get_type_hints(kind, include_extras=True)
    return frozenset(
        name
        for name, hint in hints.items()
        if any(isinstance(mark, Keyed) for mark in getattr(hint, "__metadata__", ()))
    )


@cache
def _adapter(kind: Any) -> Any:
    """Making one takes far longer than using it."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def from_json(kind: type[T], raw: object, what: str = "") -> T:
    """The inverse of :func:`to_json`; keys that the type does not have are passed over.

    Raises:
        BadInput: a part is missing or of another shape; one sentence a fault, the first three.
    """
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_python(raw)
    except ValidationError as error:
        faults = [_sentence(what or kind.__name__, one) for one in error.errors()[:3]]
        raise BadInput(*faults) from None


def _sentence(what: str, fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    said = str(fault["msg"]).removeprefix("Value error, ")
    return f"{what}: {place or 'the whole'}: {said[:1].lower()}{said[1:]}."


Printed = ClassVar[tuple[str, ...]]
"""The type of ``PRINTED``."""
