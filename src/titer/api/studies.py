"""A whole study: models, immunised here or given, attacked by a suite and judged."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from inspect import Parameter, Signature
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_type_hints

from torch import nn

from titer.api.folders import report
from titer.core.bounds import require_number
from titer.core.data import World
from titer.core.errors import BadInput, UnknownName, nearest
from titer.core.jobs import Executor, Passing, Progress
from titer.core.lm import LM
from titer.core.records import Target, Trace
from titer.core.study import Study
from titer.executors import listing as executors
from titer.executors.processes import workers_of
from titer.models import Model, save, source_of
from titer.plan.experiment import Experiment
from titer.plan.request import assemble, check, dealt, grow_missing
from titer.run.crew import crew
from titer.run.defended import immunised
from titer.run.heard import Listening, heard
from titer.run.inside import look_inside
from titer.run.machine import machine
from titer.run.runner import Told, run_study
from titer.run.store import Store
from titer.trial.immunise import Immunisation
from titer.verdict import Verdict

__all__ = ["Asked", "How", "bench"]

_LOG = logging.getLogger(__name__)
_TOLD = 5
"""How many failed trials are told of."""


class Asked(TypedDict, total=False):
    """What :func:`bench` takes beside the models: the fields of a study, as a caller in Python has
    them, and how it is run (:class:`How`)."""

    suite: str
    seeds: int
    data: str | PathLike[str] | World
    cap: int | None
    target: Target | None
    domain: str | None
    undefended: Model | None
    oracle: Model | None
    search: str | None
    defences: str | Sequence[str]
    settings: Mapping[str, Any]
    tasks: str | Sequence[str]
    shares: float | Sequence[float]
    why: bool
    out: str | PathLike[str]
    executor: str
    workers: int | None
    timeout: float
    progress: Progress | None
    ended: Told | None
    passed: Passing | None
    show_answers: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a study is run, and what is unless it is given; no number depends on it."""

    executor: str = executors.DEFAULT
    workers: int | None = None
    timeout: float = 3600.0
    progress: Progress = lambda label, done, total: None
    ended: Told | None = None
    passed: Passing | None = None
    show_answers: bool | None = None

    def __post_init__(self) -> None:
        require_number("timeout", self.timeout)


def bench(models: Study | Model | Sequence[Model], /, **asked: Unpack[Asked]) -> Verdict:
    """Run a suite of adversaries on models, and say what became of them.

    The run folder ``out`` takes everything: trials, immunised models, the report, and the
    ``study.yaml`` that makes it again. The same call again resumes it.

    Args:
        models: One model or several, each what :func:`load` takes; or a :class:`Study`; or the path
            of a ``study.yaml``, whose fields the other arguments override. A model that is only in
            memory is saved in the run folder under its name.
        suite: Which adversaries: ``quick``, ``core`` and so on; `titer list suites` prints them.
        seeds: How many seeds, from 0 up.
        data: What :func:`world` takes or gives.
        cap: Most steps of an attack. It makes another suite, whose numbers compare with no other's.
        target: What a model should do with the hazard: not know it (``knowledge``), or decline it
            (``refusal``); data of one's own say that by their measure of harm.
        domain: The hazard that the models were immunised on; the world's first where it is None.
        undefended: The model before the defence: the world's own where it is None, else the first
            of ``models``. Every attack is calibrated on it.
        oracle: A model that never learned the hazard.
        search: How settings are searched, ``full`` or ``fresh``; the suite's way where it is None.
        defences: Defences, or chains of them, to immunise the undefended model with; their results
            are tested too.
        settings: The settings of these defences.
        tasks: Only these benign tasks.
        shares: Immunise with these parts of the hazard too, for the in-domain curve.
        why: Look inside the models: was the hazard erased or hidden?
        out: The run folder.
        executor: Where trials run: ``processes`` or ``inline``. No number depends on it.
        workers: Processes; one a core where it is None. No number depends on it.
        timeout: Seconds that a trial may take.
        progress: Told a label, how many are done, and how many there are.
        ended: Told of every trial as it ends, by its trace.
        passed: Told of every checkpoint that a trial or an immunisation has passed.
        show_answers: See :func:`report`.

    Returns:
        The verdict, as :func:`read` returns it. Trials that failed are in it; the first few are
        logged as warnings too.

    Raises:
        UnknownName: no such argument, suite, defence, task, hazard or executor.
        BadInput: everything that is wrong with the study, before anything is written.
    """
    study, own, how = _asked(models, dict(asked))
    where = executors.start(how.executor, how.workers, how.timeout)
    study = dealt(study, {place: lm.digest() for place, lm in own.items()})
    checked = check(study, coming=own)
    grow_missing(checked.organisms(), workers_of(how.workers), how.progress)
    for place, lm in own.items():
        save(lm, Path(place))
    with heard(how.passed) as listening, where as executor:
        faults = _run(study, *assemble(checked), how, executor, listening)
    for said in faults:
        _LOG.warning("%s", said)
    with crew(study.out) as hands, hands.turn("report"):
        found = report(study.out, show_answers=how.show_answers)
        Store(study.out).write_sums()
    return found


def _run(
    study: Study,
    experiment: Experiment,
    plans: Sequence[Immunisation],
    how: How,
    executor: Executor,
    listening: Listening | None,
) -> list[str]:
    """Carry a study out; returns what went wrong, the first few of each kind."""
    if plans:
        experiment = immunised(experiment, plans, study.out, executor, how.progress, listening)
    traces = run_study(
        experiment,
        study.out,
        executor,
        progress=how.progress,
        ended=how.ended,
        listening=listening,
        environment=machine(),
        asked=study,
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    faults: list[str] = []
    if study.why:
        faults = look_inside(experiment, (), study.out, executor, how.progress)
    return [*_failed(traces)[:_TOLD], *faults[:_TOLD]]


def _signature() -> Signature:
    """``bench`` with each argument written out, for whoever asks the function itself."""
    kinds = get_type_hints(Asked)
    given: dict[str, Any] = {spec.name: spec.default for spec in (*fields(Study), *fields(How))}
    given |= {"settings": {}, "out": str(given["out"]), "progress": None}
    first = Parameter("models", Parameter.POSITIONAL_ONLY, annotation=Any)
    others = (
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=given[name])
        for name, kind in kinds.items()
    )
    return Signature([first, *others], return_annotation=Verdict)


bench.__signature__ = _signature()  # type: ignore[attr-defined]


def _failed(traces: Sequence[Trace]) -> list[str]:
    bad = [trace for trace in traces if trace.status in ("failed", "timed-out")]
    return [
        f"{trace.trial.label} on {trace.trial.subject}: "
        f"{trace.error.strip().splitlines()[-1] if trace.error else trace.status}"
        for trace in bad
    ]


def _asked(models: Any, asked: dict[str, Any]) -> tuple[Study, dict[str, LM], How]:
    """The study that was asked for, the models of this process in it by where they will lie, and
    how it is run."""
    names = [spec.name for spec in (*fields(Study), *fields(How))]
    for name in asked:
        if name not in names:
            raise UnknownName(
                f"bench has no argument {name!r}.{nearest(name, names)} It has {', '.join(names)}."
            )
    given = {spec.name: asked.pop(spec.name) for spec in fields(How) if spec.name in asked}
    how = How(**{name: value for name, value in given.items() if value is not None})
    study = Study()
    if isinstance(models, Study):
        study = models
    elif isinstance(models, str | PathLike) and Path(models).suffix in (".yaml", ".yml"):
        study = Study.from_yaml(models)
    else:
        asked["models"] = models if _several(models) else [models]
    out, own = Path(asked.get("out", study.out)), dict[str, LM]()
    if "models" in asked:
        several: Any = asked["models"] if _several(asked["models"]) else [asked["models"]]
        asked["models"] = tuple(source_of(one, out, own) for one in several)
    for role in ("undefended", "oracle"):
        if asked.get(role) is not None:
            asked[role] = source_of(asked[role], out, own)
    if isinstance(data := asked.get("data"), World) and not data.source:
        raise BadInput(f"the world {data.name} is not on disk; give a folder with a data.yaml.")
    if data is not None:
        asked["data"] = data.source if isinstance(data, World) else str(data)
    return replace(study, **asked), own, how


def _several(models: Any) -> bool:
    """Whether these are models, and not one; a pair with a tokenizer is one."""
    pair = isinstance(models, tuple) and len(models) == 2 and isinstance(models[0], nn.Module)
    return isinstance(models, list | tuple) and not pair
