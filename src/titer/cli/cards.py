"""A method's or a row's card: as plain values, and in words that say what will be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from titer.core import catalogue
from titer.core.errors import UnknownName, nearest
from titer.core.protocol import SMALL_MODEL
from titer.core.records import Kind, Preset

__all__ = ["RATES", "card_of", "card_text"]

RATES = {
    "full-adamw": "AdamW on all weights",
    "lora-adamw": "AdamW on LoRA adapters",
    "norms-and-embeddings-adamw": "AdamW on norms and embeddings",
    "full-sgd-nesterov": "SGD with Nesterov momentum on all weights",
    "full-adadelta": "Adadelta on all weights",
}
"""What is trained, and by what, where a reference rate is calibrated."""
_HAZARDS = {
    "k": "knowledge that should be gone",
    "r": "requests that should be declined",
    "kr": "knowledge that should be gone, and requests that should be declined",
}
_KINDS: tuple[Kind, ...] = ("attack", "defence", "measure")
_SMALL = f"below {SMALL_MODEL // 10**6} million weights"


def card_of(name: str) -> dict[str, Any]:
    """A method's or a preset's card as plain values.

    Raises:
        UnknownName: nothing in the catalogue has that name.
    """
    everything: list[str] = []
    for kind in _KINDS:
        known = catalogue.names(kind)
        rows = catalogue.presets(kind)
        everything += [*known, *rows]
        if name in known:
            found = catalogue.card(kind, name)
            return {
                "name": name,
                "kind": kind,
                "summary": found.summary,
                "source": found.source,
                "family": found.family,
                "access": found.access,
                "version": found.version,
                "departures": found.departures,
                "settings": {
                    spec.name: _default(spec)
                    for spec in fields(found.build)
                    if spec.name != "places"
                },
                "presets": {row: preset.title for row, preset in found.presets.items()},
            }
        if name in rows:
            method, preset = catalogue.preset(kind, name)
            return {"name": name, "kind": f"preset of the {kind} {method}", **asdict(preset)}
    raise UnknownName(f"nothing is named {name!r}.{nearest(name, everything)}")


def _default(spec: Any) -> Any:
    value = spec.default
    return list(value) if isinstance(value, tuple) else value


def card_text(name: str) -> str:
    """A card for the terminal.

    Raises:
        UnknownName: nothing in the catalogue has that name.
    """
    for kind in _KINDS:
        if name in catalogue.presets(kind):
            return _row(kind, name)
    found = card_of(name)
    lines = [f"{name}, {found['kind']}", *_said(found, ("summary", "source", "family", "access"))]
    lines += _said(found, ("version", "departures"))
    if found["settings"]:
        lines.append("settings, each with --set NAME=VALUE, and what they are unless set:")
        lines += _listed(found["settings"])
    if found["presets"]:
        lines.append("rows of it:" if found["kind"] == "attack" else "settings with a name:")
        lines += _listed(found["presets"])
    if found["kind"] == "defence":
        lines += _used(name)
    return "\n".join(lines)


def _row(kind: Kind, name: str) -> str:
    """The card of a row: which rate and how many steps it takes, and on what."""
    method, preset = catalogue.preset(kind, name)
    what = "a row" if kind == "attack" else "settings"
    lines = [f"{name}: {preset.title}", f"{what} of the {kind} {method} (`titer card {method}`)"]
    lines += [f"family: {preset.family}"] if preset.family else []
    lines += [f"source: {preset.source}", *_rate(kind, name, method, preset)]
    small, large = preset.steps
    here = f"{small:,}" if small == large else f"{small:,} {_SMALL}, {large:,} from there up"
    lines.append(f"steps: {here}; --steps sets another budget")
    if kind == "attack":
        lines.append(f"hazards: {_HAZARDS[preset.domain]}")
    own = {key: value for key, value in preset.fields.items() if key != "lr"}
    if own:
        lines.append(f"settings that differ from those of {method}:")
        lines += _listed(own)
    return "\n".join(lines)


def _rate(kind: Kind, name: str, method: str, preset: Preset) -> list[str]:
    if preset.lr_scale is None:
        rate = preset.fields.get("lr")
        return [] if rate is None else [f"learning rate: {rate:g}; --set lr=… sets another"]
    from titer.trial.presets import adversary

    small, large = (
        adversary(name, {}, parameters).attack.fields["lr"]
        for parameters in (SMALL_MODEL - 1, SMALL_MODEL)
    )
    times = "" if preset.lr_scale == 1 else f"{preset.lr_scale:g} times "
    return [
        f"learning rate in a study: {times}the reference rate of {RATES[preset.star]}, which is "
        "calibrated on the undefended model",
        f"learning rate by itself: {small:g} {_SMALL}, {large:g} from there up; --set lr=… sets "
        "another",
    ]


def _used(name: str) -> list[str]:
    """How many steps a defence takes, and where its settings come from."""
    from titer.trial.immunise import parse_defence, steps_of

    def budget(parameters: int) -> int:
        return steps_of(parse_defence(name), parameters=parameters)

    # Far from any size that settings were found on.
    small, large = budget(1), budget(10**15)
    steps = f"steps: {small:,} {_SMALL}, {large:,} from there up; --steps sets another budget"
    presets = catalogue.card("defence", name).presets
    taken = [f"{_SMALL} it takes the settings of {name}-testbed"] * (f"{name}-testbed" in presets)
    taken += [
        f"up to four times smaller or larger than {one.found:,} weights it takes the settings and "
        f"the {budget(one.found):,} steps of {own}"
        for own, one in presets.items()
        if one.found
    ]
    return [steps, *taken]


def _said(found: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [f"{key}: {found[key]}" for key in keys if found[key] not in ("", None)]


def _listed(values: Mapping[str, Any]) -> list[str]:
    return [f"  {key}: {_shown(value)}" for key, value in values.items()]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
