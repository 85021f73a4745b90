"""From the name a user types to the attack that is run: its fields, its rate, its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from titer.core import catalogue
from titer.core.data import Scope
from titer.core.errors import UnknownName, nearest
from titer.core.protocol import SMALL_MODEL
from titer.core.records import Budget, Part, Preset, Trial, part

__all__ = [
    "FAMILIES",
    "Adversary",
    "adversary",
    "checkpoints",
    "is_testbed",
    "middle_rate",
    "usual",
]

_TESTBED = "testbed"
_REACH = 4.0
"""Settings found on a model serve others at most so many times as large or as small."""

_LOOKS = (0, *(lead * 10**power for power in range(5) for lead in (1, 3)))
_STEPS = (300, 1000)
"""The budget of an attack by its bare name: on a testbed model, and on a larger one."""

FAMILIES: dict[str, tuple[dict[str, Any], float, float]] = {
    "full-adamw": ({}, 1e-3, 3e-5),
    "lora-adamw": ({"parameters": "lora"}, 3e-3, 3e-4),
    "norms-and-embeddings-adamw": ({"parameters": "norms-and-embeddings"}, 3e-3, 1e-3),
    "full-sgd-nesterov": ({"optimiser": "sgd-nesterov"}, 3e-2, 1e-3),
    "full-adadelta": ({"optimiser": "adadelta"}, 3.0, 1.0),
}
"""Family of optimiser and weights: its settings, and the middle of its seven-point sweep for a
testbed model and for one of a billion parameters or more."""


def is_testbed(parameters: int) -> bool:
    """Whether a model of so many weights is so small that a method's testbed settings apply."""
    return parameters < SMALL_MODEL


def usual(defence: str, parameters: int) -> tuple[str, Preset] | None:
    """The preset that a defence starts from on a model of so many weights, and its name: the
    testbed's below 50 million, else the one found on the nearest size, where that is at most four
    times as large or as small. None where there is none: then the paper's defaults apply."""
    presets = catalogue.card("defence", defence).presets
    if is_testbed(parameters):
        name = f"{defence}-{_TESTBED}"
        return (name, presets[name]) if name in presets else None
    near = {
        abs(math.log(parameters / one.found)): name for name, one in presets.items() if one.found
    }
    off = min(near, default=math.inf)
    return (near[off], presets[near[off]]) if off <= math.log(_REACH) else None


def middle_rate(family: str, parameters: int) -> float:
    """The rate that stands in for the reference rate of a family where nothing was calibrated."""
    _, small, large = FAMILIES[family]
    return small if is_testbed(parameters) else large


def checkpoints(steps: int) -> tuple[int, ...]:
    """The steps at which a model is looked at: 0, 1, 3, 10, 30 and so on, and the last."""
    return tuple(sorted({step for step in _LOOKS if step < steps} | {steps}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """An attack as it is run on a model of a certain size. ``steps`` is the budget that it is
    meant for; ``from_base`` says that it starts from the undefended model where that is public."""

    name: str
    attack: Part
    steps: int
    from_base: bool = False

    def trial(
        self,
        scope: Scope,
        *,
        model: str,
        subject: str,
        suite: str,
        items: int | None,
        steps: int | None = None,
        seed: int = 0,
        base: str = "",
    ) -> Trial:
        """One trial of it. ``model`` and ``base`` are digests, ``suite`` the hash of the suite
        whose data and judges it is asked by, ``items`` how many of each utility suite are."""
        budget = self.steps if steps is None else steps
        return Trial(
            model=model,
            subject=subject,
            world=scope.world.digest(),
            domain=scope.name,
            attack=self.attack,
            budget=Budget(steps=budget),
            seed=seed,
            suite=suite,
            checkpoints=checkpoints(budget),
            items=items,
            base=base if self.from_base else "",
            row=self.name,
            label=self.name,
        )


def adversary(name: str, settings: Mapping[str, Any], parameters: int) -> Adversary:
    """An attack by the name of a method or of a row, for a model of so many weights.

    A row's rate is a multiple of a reference rate. Nothing is calibrated here, so on a testbed
    model the middle of the sweep stands in for that; on a larger one the row's own rate applies,
    which is the paper's. A rate among the ``settings`` is taken as it is.

    Raises:
        UnknownName: no such attack, row, or field.
        BadInput: a value that does not fit its field.
    """
    methods, rows = catalogue.names("attack"), catalogue.presets("attack")
    if name not in methods and name not in rows:
        raise UnknownName(
            f"no attack named {name!r}.{nearest(name, [*methods, *rows])} "
            "`titer list attacks` and `titer list presets` print them all."
        )
    method, fields, steps = name, dict(settings), _STEPS
    if name not in methods:
        method, preset = catalogue.preset("attack", name)
        fields = {**preset.fields, **_rate(preset, parameters), **settings}
        steps = preset.steps
    card = catalogue.card("attack", method)
    return Adversary(
        name=name,
        attack=part(method, catalogue.build("attack", method, fields), card.version),
        steps=steps[0 if is_testbed(parameters) else 1],
        from_base=getattr(card.build, "uses_base", False),
    )


def _rate(preset: Preset, parameters: int) -> dict[str, float]:
    if not is_testbed(parameters) or not preset.lr_scale:
        return {}
    return {"lr": preset.lr_scale * middle_rate(preset.star, parameters)}
