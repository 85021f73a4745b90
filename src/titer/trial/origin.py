"""Which learning rate a method takes, and who chose it: said before the work and not after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from titer.core import catalogue
from titer.core.records import Kind, Part
from titer.trial.presets import adversary, is_testbed

__all__ = ["Origin", "Rate", "of_attack", "rates"]

Origin = Literal["given", "calibrated", "preset", "default", "stand-in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A peak learning rate, the method that takes it (``ilu.base``), and its origin.

    ``stand-in``: what a row takes where its multiple of a calibrated rate is not known. ``note``
    names the preset, or what stands in.
    """

    value: float
    of: str
    origin: Origin
    note: str = ""

    @property
    def text(self) -> str:
        """In words."""
        whose = {
            "given": "as given",
            "calibrated": "calibrated on this model by the sweep of a study",
            "preset": f"from the preset {self.note}",
            "default": "the method's default, found on no model like this one",
            "stand-in": f"uncalibrated, {self.note}; `--calibrate` finds one on this model",
        }[self.origin]
        return f"{self.of}: learning rate {self.value:.3g}, {whose}"


def rates(kind: Kind, parts: Sequence[Part], given: Mapping[str, Any]) -> list[Rate]:
    """The rate of every part that has one, by what was ``given`` and by the presets of its card."""
    found: list[Rate] = []
    for part in parts:
        presets = {name: one.fields for name, one in _presets(kind, part.name).items()}
        for path, value in _paths(part.fields):
            # A rate may be named with its stage before it, or without.
            names = {path, f"{part.name}.{path}"}
            holder = path.removesuffix("lr").rstrip(".")
            of = f"{part.name}.{holder}" if holder else part.name
            preset = next((name for name, one in presets.items() if _at(one, path) == value), "")
            origin: Origin = "given" if names & set(given) else "preset" if preset else "default"
            found.append(Rate(value=value, of=of, origin=origin, note=preset))
    return found


def of_attack(name: str, given: Mapping[str, Any], parameters: int) -> Rate | None:
    """The rate of an attack or row on a model of so many weights; None where it has none.

    Raises:
        UnknownName, BadInput: see :func:`~titer.trial.presets.adversary`.
    """
    attack = adversary(name, given, parameters).attack
    found = next(iter(rates("attack", [attack], given)), None)
    row = catalogue.preset("attack", name)[1] if name in catalogue.presets("attack") else None
    if found is None or row is None or row.lr_scale is None or found.origin == "given":
        return found
    small = is_testbed(parameters)
    note = (
        f"{row.lr_scale:g} times the middle of the sweep for {row.star}"
        if small
        else "the row's own, which is its paper's"
    )
    return replace(found, of=name, origin="stand-in", note=note)


def _presets(kind: Kind, name: str) -> Mapping[str, Any]:
    return catalogue.card(kind, name).presets


def _paths(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Every ``lr`` in fields and in the methods within them."""
    for key, value in fields.items():
        if key == "lr" and isinstance(value, int | float):
            yield f"{before}lr", float(value)
        elif isinstance(value, Mapping) and "type" in value:
            yield from _paths(cast(Mapping[str, Any], value), f"{before}{key}.")


def _at(fields: Mapping[str, Any], path: str) -> Any:
    head, _, rest = path.partition(".")
    inner = fields.get(head)
    if not rest:
        return inner
    return _at(cast(Mapping[str, Any], inner), rest) if isinstance(inner, Mapping) else None
