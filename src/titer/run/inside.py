"""Look inside every model of a study, to say why it held or fell; resumable, and no one's budget.

``inside/<key>.json`` holds what one measure found in one model, ``inside.json`` names those of the
study.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from titer.core.jobs import Executor, Progress
from titer.core.records import Part
from titer.plan.experiment import Experiment
from titer.run.crew import crew
from titer.run.store import Store, write_atomic
from titer.trial.explain import Inspection, explain, pick

__all__ = ["inspections", "look_inside"]


def inspections(study: Experiment, measures: Sequence[Part], root: Path) -> list[Inspection]:
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
            interface=base.digest if subject.differs else "",
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


def look_inside(
    study: Experiment,
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
    with crew(root) as hands:
        for ended in hands.share(executor, explain, missing):
            job = ended.job
            if not _done(root, job.key):
                error = ended.error or Store(root).inspection(job.key).get("error", "")
                last = str(error).strip().splitlines()[-1:] or [ended.status]
                faults.append(f"{job.measure.name} on {job.subject}: {last[0]}")
            done += 1
            if progress:
                progress("looking inside", done, len(jobs))
    return faults


def _done(root: Path, key: str) -> bool:
    return Store(root).inspection(key).get("status") == "ok"
