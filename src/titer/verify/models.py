"""The models of a study where they lie: which are here, what made them, and whose weights they are.

Nothing is fetched, grown or loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

from titer.core import catalogue
from titer.core.errors import BadInput
from titer.core.modelfolder import folder_digest, slices, weight_files
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Budget, Part, Spent, Trace
from titer.core.study import Manifest, Subject
from titer.run.sound import released
from titer.run.store import damage
from titer.trial.immunise import Immunisation, account, steps_of
from titer.verify.files import Finding
from titer.worlds.organisms import cached, parse
from titer.worlds.source import world_seed
from titer.worlds.strangers import stranger

__all__ = ["here", "inside", "making", "models"]

_BLOCK = 1 << 20


def inside(root: Path, subject: Subject) -> Path | None:
    """Where a model that the study made lies in the run folder; None for a model from elsewhere."""
    place = PurePosixPath(subject.source)
    within = place.parts[:1] == ("models",) and ".." not in place.parts
    return root / place if within else None


def here(root: Path, subject: Subject) -> Path | None:
    """The folder of a model as it was measured, where that is on this machine.

    A model of the hub is known by its commit, which no folder shows, and is not looked for.
    """
    if subject.revision:
        return None
    places = [inside(root, subject), Path(subject.folder) if subject.folder else None]
    if subject.source.startswith("fabula:"):
        with contextlib.suppress(BadInput):  # no organism, or one that is damaged
            places.append(cached(*parse(subject.source)))
    for folder in places:
        if folder and folder.is_dir() and folder_digest(folder) == subject.digest:
            return folder
    return None


def models(root: Path, study: Manifest, traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """The models against their digests, against what they say of themselves, and against the
    weights that the trials say they have."""
    digests = {model: own for (model, other), own in released(traces.values()).items() if not other}
    for subject in study.subjects:
        yield from _strange(root, study, subject)
        folder = inside(root, subject)
        if folder is None:
            continue
        where = f"models/{folder.name}"
        if not folder.is_dir():
            says = f"{subject.name} is not in the folder, so its trials cannot be run again."
            yield Finding(check="model", where=where, says=says, kind="note")
        elif folder_digest(folder) != subject.digest:
            says = f"is not the model {subject.name} that was measured ({subject.digest})."
            yield Finding(check="model", where=where, says=says)
        elif subject.defence:
            for says in _made(folder, study, subject, digests.get(subject.digest, set())):
                yield Finding(check="model", where=where, says=says)
    yield from _shared(root, study, digests)


def _strange(root: Path, study: Manifest, subject: Subject) -> Iterator[Finding]:
    """A model of another testbed world, which knows nothing of what it was asked."""
    with contextlib.suppress(BadInput):  # a world that is none is said elsewhere
        seed = world_seed(study.world_source)
        place = inside(root, subject) or Path(subject.folder or subject.source)
        if seed is not None and (home := stranger(place, seed)) and here(root, subject):
            says = f"{subject.name} grew in {home}, so what it was asked says nothing of it."
            yield Finding(check="model", where=subject.source, says=says)


# -- what made a model -----------------------------------------------------------------------------


def _made(folder: Path, study: Manifest, subject: Subject, weights: set[str]) -> Iterator[str]:
    """What a model's own note says of how it was made, against the study and its trials."""
    base = study.reference("undefended")
    try:
        facts, wanted = making(folder, parameters=base.parameters if base else 0)
        said = str(facts["weights"])
        spent = Spent(**facts["spent"])
        names = "+".join(part.name for part in wanted.parts)
    except (OSError, *UNREADABLE) as error:
        yield f"has no titer.json that says how it was made: {damage(error)}."
        return
    if weights and weights != {said} and _as_saved(folder, wanted):
        yield f"has weights {said} by its titer.json, and {_or(weights)} by the trials on it."
    if over := spent.over(Budget(steps=wanted.steps)):
        yield f"cost more than its defence may spend, by its titer.json: {over[0]}."
    if not all(math.isfinite(used) and used >= 0 for used in asdict(spent).values()):
        yield "cost what nothing costs, by its titer.json."
    if wanted.key != folder.name:
        yield f"is not what its titer.json says was made: that would be models/{wanted.key}."
    for what, ours, theirs in (
        ("defence", names, subject.defence),
        ("undefended model", wanted.base, base.digest if base else ""),
        ("world", wanted.world, study.world_digest),
        ("hazard", wanted.domain, study.domains[0]),
        ("share", wanted.share, subject.share.share if subject.share else 1.0),
    ):
        if ours != theirs:
            yield f"was made with {what} {ours} by its titer.json, and {theirs} by config.yaml."
    if account(folder) != (subject.course, subject.doubts):
        yield "says of its own way and doubts something else than config.yaml does."


def _as_saved(folder: Path, wanted: Immunisation) -> bool:
    """Whether a model that is loaded has the very tensors that its defence left: a lock is put on
    anew, and what is saved in half precision is rounded."""
    locks = any(catalogue.card("defence", part.name).family == "lock" for part in wanted.parts)
    kinds = {place.dtype for path in weight_files(folder) for place in slices(path).values()}
    return not locks and kinds == {"F32"}


def making(folder: Path, *, parameters: int) -> tuple[Mapping[str, Any], Immunisation]:
    """What a model's own note says, and what was asked for by it; the steps are those that its
    settings are meant for on a model of so many ``parameters``, as in every study.

    Raises:
        BadInput, KeyError, TypeError, ValueError, AttributeError, OSError: there is no such note.
    """
    facts = load_json((folder / "titer.json").read_text(encoding="utf-8"))
    parts = tuple(Part(**stage) for stage in facts["defence"])
    wanted = Immunisation(
        parts=parts,
        base=facts["base"]["digest"],
        world=facts["world"]["digest"],
        domain=facts["world"]["domain"],
        steps=steps_of(parts, parameters=parameters),
        seed=facts["seed"],
        share=facts["share"],
        draw=facts["draw"],
    )
    return facts, wanted


def _or(digests: set[str]) -> str:
    return " or ".join(sorted(one or "none" for one in digests))


# -- whose weights they are ------------------------------------------------------------------------


def _shared(root: Path, study: Manifest, digests: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Two models to which the trials give the same weights, and whose files hold others: the
    results of one stand under the name of the other."""
    by_digest = {subject.digest: subject for subject in reversed(study.subjects)}
    told = [one for one in by_digest.values() if len(digests.get(one.digest, ())) == 1]
    for one, other in combinations(told, 2):
        if digests[one.digest] != digests[other.digest]:
            continue
        mine, theirs = here(root, one), here(root, other)
        if mine and theirs and not _alike(mine, theirs):
            says = (
                f"say that {one.name} and {other.name} have the same weights, and their files "
                "hold different ones."
            )
            yield Finding(check="trial", where="trials", says=says)


def _alike(one: Path, other: Path) -> bool:
    """False where two folders have the same tensors, by name, type and shape, and other numbers in
    them. Folders with other tensors may still be the same model, saved otherwise."""
    mine, theirs = _tensors(one), _tensors(other)
    return mine.keys() != theirs.keys() or mine == theirs


def _tensors(folder: Path) -> dict[tuple[str, str, tuple[int, ...]], str]:
    """A hash of each tensor, by its name, type and shape."""
    found: dict[tuple[str, str, tuple[int, ...]], str] = {}
    for path in weight_files(folder):
        with path.open("rb") as file:
            for name, place in sorted(slices(path).items()):
                total, left = hashlib.sha256(), place.size
                file.seek(place.start)
                while left > 0 and (block := file.read(min(left, _BLOCK))):
                    total.update(block)
                    left -= len(block)
                found[name, place.dtype, place.shape] = total.hexdigest()
    return found
