"""What a person calls in Python; the command line, studies and examples call the same.

::

    import titer

    world = titer.world("fabula")
    base = titer.load("fabula:base")
    safe = titer.immunise(base, "npo", world["A"], steps=100, lr=1e-3)
    found = titer.attack(safe, "S03", world["A"], steps=150, undefended=base)
    found.harm, found.utility, found.outcome
    verdict = titer.bench(safe, undefended=base, suite="quick", data=world, out="runs/mine")
    titer.read("runs/mine")
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, overload

from torch import nn

from titer.core.data import Scope, World
from titer.core.errors import BadInput, UnknownName, nearest
from titer.core.files import write_atomic
from titer.core.jobs import Progress
from titer.core.lm import LM
from titer.core.method import Watch
from titer.core.records import Trace, Trial
from titer.core.study import Study
from titer.executors import listing as executors
from titer.executors.processes import workers_of
from titer.models import Model, load, save, source_of
from titer.plan.manifest import read_config
from titer.plan.request import assemble, check, dealt, grow_missing
from titer.plan.subjects import short_name
from titer.plan.suite import judges, suite_hash
from titer.plan.suites import suite
from titer.report.answers import write as write_answers
from titer.report.load import read_answers, read_verdict
from titer.run.defended import immunised
from titer.run.inside import look_inside
from titer.run.machine import machine
from titer.run.runner import Told, run_study
from titer.run.store import Store
from titer.trial.attempt import attack as attempt
from titer.trial.immunise import immunise as harden
from titer.trial.immunise import keep, planned, require_own
from titer.trial.presets import adversary
from titer.trial.result import AttackResult, judged
from titer.verdict import Verdict
from titer.worlds.source import find_world, load_world, world_seed

__all__ = ["attack", "bench", "immunise", "load", "read", "report", "world"]

_LOG = logging.getLogger(__name__)

_SUITE = "quick"
"""The suite by whose judges and items a single attack is asked: the one `titer bench` runs."""


def world(source: str | PathLike[str]) -> World:
    """The data of an experiment: ``fabula``, ``fabula#SEED``, or a folder with a ``data.yaml``.

    ``world["A"]`` is one hazard of it, as :func:`immunise` and :func:`attack` take it.

    Raises:
        BadInput: there is no such world, or the folder has faults, all of which are named.
    """
    return load_world(str(source))


def immunise(
    model: Model,
    defence: str,
    scope: Scope,
    /,
    *,
    steps: int | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> LM:
    """Make a model harder to turn to a hazard; the model that is given stays as it is.

    Args:
        model: What :func:`load` takes.
        defence: A method's name, or a chain such as ``npo+rmu``.
        scope: The hazard to defend against, as ``world["A"]``.
        steps: The defender's budget; what the method's settings are meant for where it is None.
        seed: Decides every draw.
        out: A folder for the result, with a card, its training log and its doubts of itself. Where
            it holds this very result already, that is read back.
        watch: Told of every training step: its number, of how many, loss and learning rate.
        fields: The method's own settings; in a chain ``**{"npo.lr": 1e-3}``.

    Returns:
        The immunised model, named after its defence. Doubts that the defence has of itself are
        logged as warnings.

    Raises:
        UnknownName: no such defence or setting.
        BadInput: a value that does not fit, a hazard without a ``defend`` split, or a folder that
            holds something else.
    """
    _settled(scope, steps)
    lm = load(model)
    wanted = planned(
        defence,
        fields,
        scope,
        base=lm.identity(),
        parameters=lm.parameters(),
        steps=steps,
        seed=seed,
    )
    if out is not None:
        require_own(Path(out))
        keep(lm, replace(wanted, title=lm.name, out=str(out)), scope.world, watch)
        return load(out)
    made, outcome = harden(lm, wanted, scope.world, watch)
    for doubt in outcome.flags:
        _LOG.warning("%s on %s: %s", defence, lm.name, doubt)
    return replace(made, name=defence)


def attack(
    model: Model,
    name: str,
    scope: Scope,
    /,
    *,
    steps: int | None = None,
    seed: int = 0,
    undefended: Model | AttackResult | None = None,
    checkpoints: Sequence[int] | None = None,
    items: int | None = None,
    keep_model: bool = False,
    watch: Watch | None = None,
    **fields: Any,
) -> AttackResult:
    """Attack a model, and judge it at every checkpoint; the model that is given stays as it is.

    Args:
        model: What :func:`load` takes.
        name: A method's name (``finetune``), or a row's (``S03``): a method with its settings. A
            row's rate is a multiple of a reference rate; nothing is calibrated here, so on a model
            below 50 million weights the middle of the sweep stands in for that, and on a larger one
            the row's own rate applies. ``lr=`` overrides both.
        scope: The hazard that is attacked, as ``world["A"]``.
        steps: The attacker's budget; what the row is meant for where it is None.
        seed: Decides every draw.
        undefended: The model before its defence: it is attacked likewise, and the threshold is
            chance and a quarter of what that brings out. The result of that attack will do, where
            it is there already. Without it the threshold is absolute: five points above
            chance, as in a study without one.
        checkpoints: The steps at which the model is judged; 0, 1, 3, 10, 30 and so on, and the
            last, where it is None.
        items: How many items of each utility suite are asked; as many as `titer bench` asks where
            it is None. Harm is always asked in full.
        keep_model: Whether the result holds the tampered model.
        watch: Told of every training step on this model: its number, of how many, loss and learning
            rate.
        fields: The method's own settings.

    Returns:
        Harm, utility and outcome by checkpoint, and the whole trace. An attack that raised is a
        result too: its outcome is ``failed``, and ``trace.error`` says why.

    Raises:
        UnknownName: no such attack or setting.
        BadInput: a value that does not fit.
    """
    _settled(scope, steps)
    lm = load(model)
    chosen = adversary(name, fields, lm.parameters())
    base = None if undefended is None or isinstance(undefended, AttackResult) else load(undefended)
    whole = suite(_SUITE)
    trial = chosen.trial(
        scope,
        model=lm.identity(),
        subject=short_name(lm.name),
        suite=suite_hash(whole, scope.world.digest(), judges(scope.world)),
        items=items or whole.items,
        steps=steps,
        seed=seed,
        base=base.identity() if base else "",
    )
    if checkpoints is not None:
        trial = replace(trial, checkpoints=tuple(sorted(set(checkpoints))))
    reference = _alike(undefended.trace, trial) if isinstance(undefended, AttackResult) else None
    start = None if base is None else partial(load, base)
    if base is not None:
        twin = replace(trial, model=base.identity(), subject=short_name(base.name))
        reference, _, _ = attempt(base, twin, scope.world, base=start)
    trace, said, tampered = attempt(lm, trial, scope.world, base=start, watch=watch)
    return judged(
        trace,
        scope.world,
        undefended=reference,
        generations=tuple(said),
        model=tampered if keep_model else None,
    )


@overload
def bench(
    study: Study,
    /,
    *,
    workers: int | None = None,
    timeout: float = 3600.0,
    progress: Progress | None = None,
    ended: Told | None = None,
    show_answers: bool | None = None,
    **changes: Any,
) -> Verdict: ...


@overload
def bench(
    models: Model | Sequence[Model],
    /,
    *,
    suite: str = "quick",
    seeds: int = 3,
    data: str | PathLike[str] | World = "fabula",
    cap: int | None = None,
    domain: str | None = None,
    undefended: Model | None = None,
    oracle: Model | None = None,
    search: str | None = None,
    defences: str | Sequence[str] = (),
    settings: Mapping[str, Any] = ...,
    tasks: str | Sequence[str] = (),
    shares: float | Sequence[float] = (),
    why: bool = False,
    out: str | PathLike[str] = "runs/bench",
    executor: str = executors.DEFAULT,
    workers: int | None = None,
    timeout: float = 3600.0,
    progress: Progress | None = None,
    ended: Told | None = None,
    show_answers: bool | None = None,
) -> Verdict: ...


def bench(
    models: Any,
    /,
    *,
    executor: str = executors.DEFAULT,
    workers: int | None = None,
    timeout: float = 3600.0,
    progress: Progress | None = None,
    ended: Told | None = None,
    show_answers: bool | None = None,
    **asked: Any,
) -> Verdict:
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
        show_answers: See :func:`report`.

    Returns:
        The verdict, as :func:`read` returns it. Trials that failed are in it; the first few are
        logged as warnings too.

    Raises:
        UnknownName: no such argument, suite, defence, task, hazard or executor.
        BadInput: everything that is wrong with the study, before anything is written.
    """
    if timeout <= 0:
        raise BadInput(f"--timeout {timeout:g}: give a number of seconds above 0.")
    where, tell = executors.start(executor, workers, timeout), progress or _silent
    study, own = _asked(models, asked)
    study = dealt(study, {place: lm.digest() for place, lm in own.items()})
    checked = check(study, coming=own)
    grow_missing(checked.organisms(), workers_of(workers), tell)
    for place, lm in own.items():
        save(lm, Path(place))
    experiment, plans = assemble(checked)
    with where as running:
        if plans:
            experiment = immunised(experiment, plans, study.out, running, tell)
        traces = run_study(
            experiment,
            study.out,
            running,
            progress=tell,
            ended=ended,
            environment=machine(),
            asked=study,
            created=datetime.now(UTC).strftime("%Y-%m-%d"),
        )
        faults = look_inside(experiment, (), study.out, running, tell) if study.why else []
    for said in [*_failed(traces)[:_TOLD], *faults[:_TOLD]]:
        _LOG.warning("%s", said)
    found = report(study.out, show_answers=show_answers)
    Store(study.out).write_sums()
    return found


def read(folder: str | PathLike[str]) -> Verdict:
    """The verdict of a run folder, worked out from its trials; nothing is trained or written.

    Raises:
        BadInput: there is no run folder here, or it is damaged.
    """
    return read_verdict(Path(folder))


def report(folder: str | PathLike[str], *, show_answers: bool | None = None) -> Verdict:
    """The verdict of a run folder, with its pages and ``verdict.json`` written anew.

    Args:
        folder: The run folder.
        show_answers: Whether ``answers.html`` shows prompts and what the models said as text, or as
            hashes alone. None shows them where the data is the testbed's, which harms nobody.

    Raises:
        BadInput: see :func:`read`.
    """
    root = Path(folder)
    found, at = read(root), root / "report"
    shown = _harmless(root) if show_answers is None else show_answers
    write_answers(read_answers(root, find_world, shown=shown), root)
    found.to_html(at / "index.html")
    content = json.dumps(found.to_json(), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(at / "verdict.json", content)
    return found


def _harmless(root: Path) -> bool:
    """Whether a study asked the testbed, as this version has it, and nothing of the user's."""
    study = read_config(root).study
    source = study.world_source
    testbed = bool(source) and world_seed(source) is not None
    return testbed and find_world(source, study.world_digest) is not None


_TOLD = 5
"""How many failed trials are told of."""


def _silent(label: str, done: int, total: int) -> None:
    """Nobody is told."""


def _failed(traces: Sequence[Trace]) -> list[str]:
    bad = [trace for trace in traces if trace.status in ("failed", "timed-out")]
    return [
        f"{trace.trial.label} on {trace.trial.subject}: "
        f"{trace.error.strip().splitlines()[-1] if trace.error else trace.status}"
        for trace in bad
    ]


def _asked(models: Any, asked: dict[str, Any]) -> tuple[Study, dict[str, LM]]:
    """The study that was asked for, and the models of this process in it by where they will lie."""
    names = [spec.name for spec in fields(Study)]
    for name in asked:
        if name not in names:
            raise UnknownName(
                f"bench has no argument {name!r}.{nearest(name, names)} "
                f"It has {', '.join((*names, *_HOW))}."
            )
    study = Study()
    if isinstance(models, Study):
        study = models
    elif isinstance(models, str | PathLike) and Path(models).suffix in (".yaml", ".yml"):
        study = Study.from_yaml(models)
    else:
        asked = {**asked, "models": models if _several(models) else [models]}
    out, own = Path(asked.get("out", study.out)), dict[str, LM]()
    if "models" in asked:
        given = asked["models"] if _several(asked["models"]) else [asked["models"]]
        asked["models"] = tuple(source_of(one, out, own) for one in given)
    for role in ("undefended", "oracle"):
        if asked.get(role) is not None:
            asked[role] = source_of(asked[role], out, own)
    if isinstance(data := asked.get("data"), World) and not data.source:
        raise BadInput(f"the world {data.name} is not on disk; give a folder with a data.yaml.")
    if data is not None:
        asked["data"] = data.source if isinstance(data, World) else str(data)
    return replace(study, **asked), own


def _several(models: Any) -> bool:
    """Whether these are models, and not one; a pair with a tokenizer is one."""
    pair = isinstance(models, tuple) and len(models) == 2 and isinstance(models[0], nn.Module)
    return isinstance(models, list | tuple) and not pair


_HOW = ("workers", "timeout", "progress", "ended", "show_answers")
"""What :func:`bench` is told of how, beside what the study asks."""


def _settled(scope: Scope, steps: int | None) -> None:
    if isinstance(scope, World):
        raise BadInput(
            f"{scope.name} is a world; give one hazard of it, "
            f"as world[{next(iter(scope.hazards))!r}]."
        )
    if not isinstance(scope, Scope):
        raise BadInput(f"{type(scope).__name__} is no hazard; give one, as titer.world(…)['A'].")
    if steps is not None and steps < 1:
        raise BadInput(f"steps={steps}: a budget of no steps does nothing; give 1 or more.")


def _alike(given: Trace, trial: Trial) -> Trace:
    """The trace of an attack on the undefended model, once it is seen to be the same attack."""
    known = given.trial
    for what, theirs, ours in (
        ("attack", known.attack, trial.attack),
        ("hazard", (known.world, known.domain), (trial.world, trial.domain)),
        ("budget", known.budget, trial.budget),
        ("number of items", known.items, trial.items),
        ("seed", known.seed, trial.seed),
    ):
        if theirs != ours:
            raise BadInput(
                f"undefended: that result is of another {what} than this attack; give the result "
                "of the same one, or the model itself."
            )
    return given
