"""Look inside every model of a study, to say why it held or fell; resumable, and no one's budget.

``inside/<key>.json`` holds what one measure found in one model, ``inside.json`` names those of the
study. Nothing here changes a score, so nothing here is part of a suite's hash.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from titer.core import catalogue
from titer.core.errors import UnknownName, nearest
from titer.core.method import Case, Insight
from titer.core.records import Part, Status, content_key, part
from titer.grid.perform import load_model, load_named_world
from titer.grid.runner import Executor, Progress
from titer.grid.store import Store, write_atomic
from titer.grid.study import Study

__all__ = ["Inspection", "inspections", "look_inside", "perform", "pick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One measure on one model, beside the undefended one; its key is its name.

    Both models are known by their digests; ``derived`` says that the first was made from the
    second. Places and ``subject`` are for people and stay out of the key.
    """

    measure: Part
    model: str
    base: str
    world: str
    domain: str
    derived: bool
    seed: int = 0
    subject: str = ""
    folder: str = ""
    base_folder: str = ""
    source: str = ""
    out: str = ""
    size: int = 1

    @property
    def key(self) -> str:
        """Same key, same readings."""
        content = asdict(self)
        for place in ("subject", "folder", "base_folder", "source", "out", "size"):
            del content[place]
        return content_key(content)


def pick(names: Sequence[str]) -> tuple[Part, ...]:
    """The measures that look inside, by name; all of them where none is named.

    Raises:
        UnknownName: there is no such measure, or it scores items instead.
    """
    known = [one.name for one in catalogue.summaries("measure") if one.family == "inside"]
    if unknown := [name for name in names if name not in known]:
        raise UnknownName(
            f"no measure named {unknown[0]!r} looks inside a model.{nearest(unknown[0], known)} "
            f"There are {', '.join(known)}."
        )
    return tuple(
        part(name, catalogue.build("measure", name), catalogue.card("measure", name).version)
        for name in names or known
    )


def inspections(study: Study, measures: Sequence[Part], root: Path) -> list[Inspection]:
    """Every measure on every model of a study but those made with a share of the hazard."""
    base = study.undefended()
    return [
        Inspection(
            measure=measure,
            model=subject.digest,
            base=base.digest,
            world=study.world_digest,
            domain=study.domain,
            derived=subject.role != "oracle",
            seed=study.seeds[0],
            subject=subject.name,
            folder=subject.folder,
            base_folder=base.folder,
            source=study.source,
            out=str(root / "inside"),
        )
        for subject in study.subjects
        if subject.share is None
        for measure in measures
    ]


def perform(job: Inspection) -> Status:
    """Take one measure's readings and write them down, whole or not at all."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    started = time.monotonic()
    found: dict[str, Any] = {"measure": asdict(job.measure), "subject": job.subject}
    status: Status = "ok"
    try:
        world = load_named_world(job.source)
        insight: Insight = catalogue.build("measure", job.measure.name, dict(job.measure.fields))
        case = Case(
            lm=load_model(job.folder),
            base=load_model(job.base_folder),
            hazard=world.hazards[job.domain],
            data=world.attacker(job.domain),
            derived=job.derived,
            seed=job.seed,
        )
        found["readings"] = [asdict(reading) for reading in insight.look(case)]
    except Exception:
        status, found["error"] = "failed", traceback.format_exc(limit=20)
    found |= {"status": status, "seconds": round(time.monotonic() - started, 3)}
    Path(job.out).mkdir(parents=True, exist_ok=True)
    write_atomic(Path(job.out) / f"{job.key}.json", json.dumps(found, indent=1, sort_keys=True))
    return status


def look_inside(
    study: Study,
    names: Sequence[str],
    root: Path,
    executor: Executor,
    progress: Progress | None = None,
) -> list[str]:
    """Take every reading that is not there yet; returns a sentence for each measure that failed.

    Raises:
        UnknownName: see :func:`pick`.
    """
    jobs = inspections(study, pick(names), root)
    entries = [
        {"key": job.key, "subject": job.subject, "measure": job.measure.name} for job in jobs
    ]
    write_atomic(root / "inside.json", json.dumps(entries, indent=1))
    missing = list({job.key: job for job in jobs if not _done(root, job.key)}.values())
    done, faults = len(jobs) - len(missing), list[str]()
    if progress:
        progress("looking inside", done, len(jobs))
    for ended in executor(perform, missing):
        job = ended.job
        if ended.status != "ok":
            error = ended.error or Store(root).inspection(job.key).get("error", "")
            last = str(error).strip().splitlines()[-1:] or [ended.status]
            faults.append(f"{job.measure.name} on {job.subject}: {last[0]}")
        done += 1
        if progress:
            progress("looking inside", done, len(jobs))
    return faults


def _done(root: Path, key: str) -> bool:
    return Store(root).inspection(key).get("status") == "ok"
