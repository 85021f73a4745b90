"""Which models judge, as ``data.yaml`` says it under ``judges``: found before anything is run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from titer.core import catalogue
from titer.core.data import JudgedBy
from titer.core.errors import BadInput
from titer.core.modelfolder import folder_digest
from titer.worlds._schema import Manifest
from titer.worlds.hub import fetch, resolve_model

__all__ = ["asked_by", "judges", "settled"]

_FILES = ("adapter_config.json", "adapter_model.safetensors")
_HUB = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")


def asked_by(manifest: Manifest) -> dict[str, list[str]]:
    """The measures that a manifest names, by the key that names them."""
    return {
        "harm.measure": [manifest.harm.measure],
        "harm.also": manifest.harm.also,
        **{f"utility.{name}.measure": [one.measure] for name, one in manifest.utility.items()},
        **{f"tasks.{name}.measure": [one.measure] for name, one in manifest.tasks.items()},
    }


def judges(manifest: Manifest, root: Path, faults: list[str]) -> dict[str, JudgedBy]:
    """The settings of measures that a data folder gives; what is wrong is added to ``faults``."""
    known = set(catalogue.names("measure"))
    asked = {name for names in asked_by(manifest).values() for name in names}
    found: dict[str, JudgedBy] = {}
    for name, given in manifest.judges.items():
        if name not in asked | {"coherence", "perplexity", "refusal"}:
            faults.append(
                f"data.yaml: judges has settings of {name!r}, which nothing here is measured by; "
                f"name it under harm, utility or tasks, or take it out."
            )
            continue
        try:
            found[name] = settled(name, given, root)
        except BadInput as error:
            faults += [f"data.yaml: judges.{name}: {fault}" for fault in error.faults]
    for name in sorted((asked & known) - set(manifest.judges)):
        if missing := _missing(catalogue.card("measure", name).build, ()):
            faults.append(
                f"data.yaml: the measure {name} needs {' and '.join(missing)}; write them under "
                f"judges, as in `judges: {{{name}: {{{missing[0]}: …}}}}`."
            )
    return found


def settled(name: str, given: Mapping[str, Any], root: Path) -> JudgedBy:
    """A measure's settings with its models found: a place, relative to ``root``, becomes what it is
    that lies there.

    Raises:
        BadInput: a setting that does not fit or is missing, or a model that is not to be had.
    """
    build = catalogue.card("measure", name).build
    if missing := _missing(build, given):
        raise BadInput(f"{name} needs {' and '.join(missing)}; give it.")
    if "places" in given:
        raise BadInput(f"{name}: places are found and not given; give the model alone.")
    built = catalogue.build("measure", name, dict(given))  # values as the fields have them
    idle = {spec.name for spec in fields(build) if not spec.compare}
    settings = {key: getattr(built, key) for key in given if key not in idle}
    beside: dict[str, Any] = {key: getattr(built, key) for key in given if key in idle}
    places: dict[str, str] = {}
    for keys, find in (("models", _model), ("adapters", _adapter)):
        for key in getattr(build, keys, ()):
            if settings.get(key):
                settings[key], at = find(str(settings[key]), root)
                places[settings[key]] = str(at)
    return JudgedBy(settings=settings, beside={**beside, "places": places} if places else beside)


def _model(source: str, root: Path) -> tuple[str, Path]:
    """What a model is, in words that hold on every machine (a hub id with its commit, or the digest
    of a folder), and where it lies on this one."""
    ref = resolve_model(source, base=root)
    if ref.kind == "hub":
        return f"{ref.source}@{ref.revision}", fetch(ref)
    return f"{'folder' if ref.kind == 'folder' else ref.source}@{ref.digest}", fetch(ref)


def _adapter(source: str, root: Path) -> tuple[str, Path]:
    """The same of an adapter: a folder that PEFT wrote, or a hub id at a commit."""
    at, hub = root / Path(source).expanduser(), _HUB.fullmatch(source)
    if hub and not at.exists():
        from huggingface_hub import snapshot_download

        try:
            at = Path(snapshot_download(hub[1], revision=hub[2], allow_patterns=list(_FILES)))
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise BadInput(f"the adapter {source} is not to be had: {first}") from error
    if absent := [name for name in _FILES if not (at / name).is_file()]:
        raise BadInput(
            f"{source} is no adapter (no {absent[0]}); give a folder that PEFT wrote, or a hub id "
            "with the 40 digits of a commit, owner/name@commit."
        )
    return source if hub else f"folder@{folder_digest(at)}", at


def _missing(build: Any, given: Iterable[str]) -> list[str]:
    return [key for key in getattr(build, "needs", ()) if key not in given]
