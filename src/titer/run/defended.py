"""The models of a study that it makes itself: defences carried out, and added to the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from titer.core.errors import BadInput
from titer.core.jobs import Executor, Passed, Progress
from titer.core.method import Step, Watch
from titer.core.records import Status
from titer.core.study import Role, Share, Subject
from titer.plan.experiment import Experiment
from titer.plan.subjects import compared, distinct, open_tested
from titer.run.crew import crew
from titer.run.heard import Listening, Note
from titer.trial.immunise import Immunisation, write
from titer.trial.presets import checkpoints
from titer.trial.shares import size, units

__all__ = ["immunised", "share_of"]


def share_of(plan: Immunisation, study: Experiment, of: str) -> Share | None:
    """How a plan's result is marked, where it is made with a share of the hazard."""
    if plan.share == 1:
        return None
    total = len(units(study.world.hazards[study.domain].defend))
    return Share(
        of=of,
        share=plan.share,
        draw=plan.draw,
        entities=size(plan.share, total),
        total=total,
    )


def immunised(
    study: Experiment,
    plans: Sequence[Immunisation],
    root: Path,
    executor: Executor,
    progress: Progress | None = None,
    listening: Listening | None = None,
) -> Experiment:
    """Carry out immunisations into ``root/models`` and add the results to the study. Who is
    ``listening`` hears of every checkpoint.

    Raises:
        BadInput: a defence failed; the sentence says how.
    """
    jobs = [replace(plan, out=str(root / "models" / plan.key)) for plan in plans]
    work = partial(_write, note=listening.note if listening else None)
    once = {job.key: job for job in jobs if not job.results[0].exists()}
    there = len(jobs) - len(once)
    if progress:
        progress("immunising", there, len(jobs))
    with crew(root) as hands:
        for count, ended in enumerate(hands.share(executor, work, [*once.values()]), there + 1):
            if listening:
                listening.catch_up()
            if ended.status != "ok":
                last = ended.error.strip().splitlines()[-1] if ended.error else ended.status
                label = "+".join(stage.name for stage in ended.job.parts)
                raise BadInput(f"the defence {label} did not finish: {last}")
            if progress:
                progress("immunising", count, len(jobs))
    base = study.undefended()
    made = [_made(plan, base, study.suite.controls) for plan in jobs if plan.share == 1]
    named = distinct([*study.subjects, *made])
    whole = {subject.source: subject.name for subject in named}
    for plan in {job.key: job for job in jobs if job.share < 1}.values():
        of = whole[_place(replace(plan, share=1.0, draw=0))]
        named = (
            *named,
            replace(_made(plan, base, study.suite.controls), share=share_of(plan, study, of)),
        )
    return replace(study, subjects=named)


def _write(plan: Immunisation, note: Note | None) -> Status:
    return write(plan, note and _checkpoints(plan, note))


def _checkpoints(plan: Immunisation, note: Note) -> Watch:
    """Notes the steps at which an attack of as many would be judged."""

    def watch(step: Step) -> None:
        if step.number in checkpoints(step.of or step.number):
            note(
                Passed(
                    label="immunising",
                    subject=plan.name,
                    seed=plan.seed,
                    step=step.number,
                    of=step.of,
                    loss=step.loss,
                    rate=step.rate,
                )
            )

    return watch


def _place(plan: Immunisation) -> str:
    return f"models/{plan.key}"


def _made(plan: Immunisation, base: Subject, controls: Sequence[str]) -> Subject:
    role: Role = "control" if plan.name in controls else "defended"
    return replace(
        compared(open_tested(plan.out, role, name=plan.name), base, scales=not controls),
        source=_place(plan),
        defence="+".join(stage.name for stage in plan.parts),
    )
