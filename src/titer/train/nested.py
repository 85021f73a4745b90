"""A method as a field of another method: an adversary to be simulated, a defence to be built on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, cast

from titer.core import catalogue
from titer.core.errors import BadInput
from titer.core.records import Kind

__all__ = ["nested"]


def nested(kind: Kind, value: object) -> Any:
    """The method that a field gives.

    A name stands for the method with its defaults, a preset's name for that preset, a mapping for
    the method of the class named ``type`` with the fields beside it (this is how trials write it
    down), and a method for itself.

    Raises:
        UnknownName: no such method, preset or field.
        BadInput: a value that is none of these.
    """
    if isinstance(value, str):
        if value in catalogue.presets(kind):
            name, preset = catalogue.preset(kind, value)
            return catalogue.build(kind, name, dict(preset.fields))
        return catalogue.build(kind, value)
    if isinstance(value, Mapping):
        fields = dict(cast(Mapping[str, Any], value))
        return catalogue.build(kind, _name_of(kind, str(fields.pop("type", ""))), fields)
    if is_dataclass(value) and callable(value):
        return value
    raise BadInput(f"{value!r} is no {kind}; give a name, a preset or an object.")


def _name_of(kind: Kind, written: str) -> str:
    names = catalogue.names(kind)
    if written in names:
        return written
    for name in names:
        if catalogue.card(kind, name).build.__name__ == written:
            return name
    raise BadInput(f"no {kind} has the type {written!r}; give one of {', '.join(names)}.")
