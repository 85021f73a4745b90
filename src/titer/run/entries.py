"""The entries of a plan: which trials a study has, and what it calls each of them.

A key says nothing of names, so two studies may share a trial and call it differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast, get_args

from titer.core.records import NAMES, Trace, Trial, TrialRole
from titer.trial.presets import FAMILIES

__all__ = ["Entry", "read_entry"]

_KEY = re.compile(r"[0-9a-f]{16}")
_CHECK = re.compile(r"(S\d+) (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One trial of a plan: its key, and the names of :class:`~titer.core.records.Trial` that the
    study gives it."""

    key: str
    label: str
    subject: str
    role: TrialRole = "adversary"
    row: str = ""
    check: str = ""

    @staticmethod
    def of(trial: Trial) -> Entry:
        """The entry of a planned trial."""
        return Entry(key=trial.key, **{name: getattr(trial, name) for name in NAMES})

    def call(self, trace: Trace) -> Trace:
        """The trace of this entry's trial under the names that the study gives it."""
        names: dict[str, Any] = {name: getattr(self, name) for name in NAMES}
        return replace(trace, trial=replace(trace.trial, **names))

    def to_json(self) -> dict[str, str]:
        """Plain JSON values; :func:`read_entry` reads them back."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.label} on {self.subject}"


def read_entry(raw: object) -> Entry:
    """An entry as it stands in ``plan.json``.

    Raises:
        ValueError: it is none; a key that is no key would be a path to elsewhere.
    """
    names = [spec.name for spec in fields(Entry)]
    told: Mapping[str, Any] = cast(Mapping[str, Any], raw) if isinstance(raw, dict) else {}
    if not all(isinstance(told.get(name), str) for name in ("key", "label", "subject")):
        raise ValueError("an entry has no key, label and subject")
    if not _KEY.fullmatch(told["key"]):
        raise ValueError(f"{told['key']!r} is no key")
    if "role" not in told:
        told = {**told, **_from_label(told["label"])}
    if not all(isinstance(told.get(name), str) for name in names):
        raise ValueError("an entry has no role, row and check")
    if told["role"] not in get_args(TrialRole):
        raise ValueError(f"{told['role']!r} is no role of a trial")
    return Entry(**{name: told[name] for name in names})


def _from_label(label: str) -> dict[str, str]:
    """What a trial is for, from its label. Until 0.1.0 a plan held labels alone."""
    if label == "none":
        return {"role": "baseline", "row": "", "check": ""}
    if label.startswith("task "):
        return {"role": "task", "row": label.removeprefix("task "), "check": ""}
    if label in FAMILIES:
        return {"role": "rate", "row": label, "check": ""}
    if label in ("weights", "paths", "splits"):
        return {"role": "check", "row": label, "check": ""}
    if asked := _CHECK.fullmatch(label):
        return {"role": "check", "row": asked[2], "check": asked[1]}
    return {"role": "adversary", "row": label, "check": ""}
