"""``config.yaml``: what a run folder says of its study. Written first, and read by everyone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from titer.core.codec import from_json
from titer.core.errors import BadInput
from titer.core.files import write_atomic
from titer.core.study import Manifest
from titer.grid.described import modernise
from titer.grid.suite import refuse_retired

__all__ = ["FORMAT", "Config", "claim_folder", "read_config", "write_config"]

FORMAT = 1
"""The version of the folder layout; folders of another are refused, not guessed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A run folder's study, the command that makes it again, and the day it was begun."""

    format: int
    created: str = ""
    command: str
    study: Manifest


def read_config(root: Path) -> Config:
    """What a run folder's config says.

    Raises:
        BadInput: there is no run folder, it is of another layout, or its config is damaged.
    """
    path = root / "config.yaml"
    raw = _raw(root)
    if isinstance(raw, dict) and raw.get("format", FORMAT) != FORMAT:
        raise BadInput(
            f"{path} is of format {raw.get('format')!r}, and this version of titer reads {FORMAT}; "
            "read it with the version of titer that wrote it."
        )
    if isinstance(raw, dict):
        refuse_retired(root, raw)
    try:
        if not isinstance(raw, dict) or not isinstance(raw.get("study"), dict):
            raise BadInput("it describes no study.")
        found = from_json(Config, raw, "config")
        study = found.study
        if [one.role for one in study.models].count("undefended") != 1:
            raise BadInput("its models are not one undefended and others.")
        if not study.rows:
            raise BadInput("it has no rows.")
    except BadInput as error:
        told = error.faults[0].rstrip(".")
        raise BadInput(f"{path} is damaged: {told}; copy the folder again.") from None
    return replace(found, study=modernise(study))


def _raw(root: Path) -> Any:
    path = root / "config.yaml"
    if not path.is_file():
        raise BadInput(f"{root} is no run folder (it has no config.yaml); `titer bench` makes one.")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is damaged: it is no text; copy the folder again.") from None
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"{path} is damaged: {first}; copy the folder again.") from None


def write_config(root: Path, study: Manifest, command: str, created: str) -> None:
    """Write a run folder's config, whole or not at all."""
    content = {"format": FORMAT, "created": created, "command": command, "study": study.to_json()}
    write_atomic(root / "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def claim_folder(root: Path, suite: str) -> None:
    """Make sure that a run folder is new or belongs to this suite.

    Raises:
        BadInput: it holds results of another suite version or layout, or is something else.
    """
    if not (root / "config.yaml").exists():
        # Immunised models come before the first trial and the config.
        if root.exists() and any(root.iterdir()) and not (root / "models").exists():
            raise BadInput(
                f"{root} exists and is no run folder; choose another --out or an empty folder."
            )
        return
    found = read_config(root).study
    if found.suite_hash != suite:
        raise BadInput(
            f"{root} holds results of suite {found.suite}-{found.suite_version} "
            f"({found.suite_hash}), and this run is {suite}; results of two suites never mix, so "
            "choose another --out."
        )
