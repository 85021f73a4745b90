"""The diagnoses: looks at a model that no attack takes, in the shape of a trial.

``weights`` asks about a model as it stands; ``paths`` fine-tunes it and the undefended model, and
asks about the way between; ``splits`` asks about every split of the hazard. A diagnosis is planned
like any trial and so has a part, whose name is reserved: no method of the catalogue is called so.
This file alone knows those names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from titer.core.records import Part, Trial

__all__ = ["Diagnosis", "diagnosis", "diagnosis_part", "reference", "tuning"]

Diagnosis = Literal["weights", "paths", "splits"]

_NAMES: dict[str, Diagnosis] = {
    "check-weights": "weights",
    "check-paths": "paths",
    "check-splits": "splits",
}


def diagnosis_part(
    which: Diagnosis, undefended: str, tuned: Mapping[str, Any] | None = None
) -> Part:
    """What a trial is given for a diagnosis. ``undefended`` is the digest of the model that it is
    compared with, ``tuned`` the settings of the fine-tuning that ``paths`` does."""
    name = next(name for name, known in _NAMES.items() if known == which)
    return Part(name=name, fields={"undefended": undefended, **(tuned or {})})


def diagnosis(trial: Trial) -> Diagnosis | None:
    """Which diagnosis a trial is; None for a method of the catalogue."""
    return _NAMES.get(trial.attack.name)


def reference(trial: Trial) -> str:
    """The digest of the undefended model that a diagnosis compares with."""
    return str(trial.attack.fields["undefended"])


def tuning(trial: Trial) -> dict[str, Any]:
    """The settings of the fine-tuning of a diagnosis."""
    return {name: value for name, value in trial.attack.fields.items() if name != "undefended"}
