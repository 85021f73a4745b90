"""From what a user typed to a study: every fault found before the first training step."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from titer.core.data import Example, World
from titer.core.errors import BadInput, NotFinite, UnknownName, nearest
from titer.core.study import Role, Share, Subject
from titer.grid.config import claim_folder
from titer.grid.runner import Executor, Progress
from titer.grid.store import require_space
from titer.grid.study import Experiment
from titer.grid.subjects import distinct, is_testbed, open_subject, open_tested
from titer.grid.suite import Suite, judges, suite, suite_hash
from titer.trial.immunise import Immunisation, parse_defence, planned, write
from titer.trial.shares import check_shares, size, units
from titer.worlds.hub import resolve_model
from titer.worlds.organisms import parse
from titer.worlds.source import load_world, world_seed

__all__ = [
    "Checked",
    "Faults",
    "Request",
    "assemble",
    "check",
    "immunised",
    "is_testbed",
    "open_subject",
    "share_of",
]

T = TypeVar("T")


class Faults:
    """Collects faults so that all of them are reported at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(self, action: Callable[[], T]) -> T | None:
        """The action's result, or None with its faults kept."""
        try:
            return action()
        except BadInput as error:
            self.found += error.faults
            return None

    def settle(self) -> None:
        """Raise everything that was found, once each."""
        if self.found:
            raise BadInput(*dict.fromkeys(self.found))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks of a study, as typed.

    ``models`` are the models under test; ``undefended`` and ``oracle`` override the world's own
    references. ``defences`` are applied to the undefended model and join the models under test;
    ``shares`` are the parts of the hazard with which each of them is made again, for the in-domain
    curve. ``cap`` bounds the attackers' steps and not the defenders'. ``search`` says how rates are
    looked for; None is the suite's own way.
    ``alone`` leaves the references out, for work on one model. ``why`` looks inside the models too.
    """

    models: Sequence[str] = ()
    defences: Sequence[str] = ()
    suite: str = "quick"
    data: str = "fabula"
    out: Path = Path("runs/bench")
    seeds: int = 3
    cap: int | None = None
    domain: str | None = None
    undefended: str | None = None
    oracle: str | None = None
    settings: Mapping[str, Any] | None = None
    tasks: Sequence[str] = ()
    shares: Sequence[float] = ()
    alone: bool = False
    search: str | None = None
    why: bool = False

    def command(self) -> str:
        """The command line that makes this study again."""
        words = ["titer", "bench", *self.models]
        plain: dict[str, Any] = {
            "--suite": self.suite,
            "--seeds": self.seeds,
            "--data": self.data,
            "--cap": self.cap,
            "--domain": self.domain,
            "--undefended": self.undefended,
            "--oracle": self.oracle,
            "--search": self.search,
        }
        for option, value in plain.items():
            if value not in (None, "fabula"):
                words += [option, str(value)]
        several: dict[str, Sequence[Any]] = {
            "--defence": self.defences,
            "--task": self.tasks,
            "--share": self.shares,
        }
        for option, values in several.items():
            for value in values:
                words += [option, str(value)]
        words += ["--why"] if self.why else []
        return shlex.join([*words, "--out", str(self.out)])


@dataclass(frozen=True)
class Checked:
    """A request that has passed every check which needs no model to be grown or fetched."""

    request: Request
    suite: Suite
    world: World
    domain: str
    wanted: tuple[tuple[str, Role, str | None], ...]

    def organisms(self) -> list[str]:
        """The organisms that must be grown first."""
        named = (*(one for one, _, _ in self.wanted), *(one for _, one in self.suite.relatives))
        return [source for source in named if source.startswith("fabula:")]


def check(request: Request, *, run_folder: bool = True) -> Checked:
    """Find every fault of a request at once, before anything is grown, fetched or written.

    ``run_folder`` says whether ``out`` must be new or a run folder of the same suite.

    Raises:
        BadInput: one sentence for each fault.
    """
    faults = Faults()
    chosen = faults.attempt(lambda: _suite(request))
    world = faults.attempt(lambda: load_world(request.data))
    domain = faults.attempt(lambda: _domain(world, request.domain)) if world else None
    if request.seeds < 1:
        faults.found.append(f"--seeds {request.seeds}: a study needs at least one seed.")
    for text in request.defences:
        faults.attempt(lambda text=text: parse_defence(text, request.settings))
    for task in request.tasks if world else ():
        if world and task not in world.tasks:
            faults.found.append(
                f"{world.name} has no task {task!r}.{nearest(task, world.tasks)} "
                f"It has {', '.join(world.tasks) or 'none'}."
            )
    if world and domain and request.shares:
        faults.attempt(lambda: _shares(request, world.hazards[domain].defend))
    wanted = _wanted(request, world) if world else []
    named: list[tuple[str, Role]] = [(source, role) for source, role, _ in wanted]
    if not world:
        named = [(source, "defended") for source in request.models]
    chosen = chosen.around(wanted[0][0]) if chosen and wanted else chosen
    broken: list[str] = []
    for source, role in named:
        faults.attempt(lambda source=source, role=role: _check_model(source, role, broken))
    if world:
        faults.found += _strangers([source for source, _ in named], request.data)
    if world and not wanted:
        faults.found.append("there is no model to test; name one.")
    faults.attempt(lambda: require_space(request.out, 50 * 2**20))
    if chosen and run_folder:
        faults.attempt(lambda: _claim(request.out, chosen, world))
    faults.found += broken if faults.found else []
    faults.settle()
    if chosen is None or world is None or domain is None:
        raise RuntimeError("a check failed without saying why")
    return Checked(request, chosen, world, domain, tuple(wanted))


def _claim(out: Path, chosen: Suite, world: World | None) -> None:
    """Refuse a folder of other results; without a world there is no hash to compare yet."""
    if world:
        claim_folder(out, suite_hash(chosen, world.digest(), judges(world)))


def _shares(request: Request, defend: Sequence[Example]) -> None:
    if not request.defences:
        raise BadInput(
            "--share draws its curve over models that are immunised here; add --defence NAME."
        )
    check_shares(request.shares, defend)


def _strangers(models: Sequence[str], data: str) -> list[str]:
    """What is said of organisms that grew in another world than the one they would be asked of."""
    seed = world_seed(data)
    found: list[str] = []
    for source in models if seed is not None else ():
        with contextlib.suppress(UnknownName):  # said where models are checked
            if source.startswith("fabula:") and (own := parse(source)[2]) != seed:
                home = f"fabula#{own}" if own else "fabula"
                found.append(
                    f"{source} grew in the world {home} and knows nothing of {data}; "
                    f"give --data {home}, or a model of that world."
                )
    return found


def _check_model(source: str, role: Role, broken: list[str]) -> None:
    """A model under test whose weights are not finite is a result, and no fault on its own."""
    try:
        if source.startswith("fabula:"):
            parse(source)
        else:
            resolve_model(source)
    except NotFinite as error:
        if role != "defended":
            raise
        broken += error.faults


def assemble(checked: Checked) -> tuple[Experiment, list[Immunisation]]:
    """The study, and the immunisations that must be made before it can run.

    Raises:
        BadInput: a model that cannot be loaded.
    """
    request = checked.request
    faults = Faults()
    opened = [
        subject
        for source, role, name in checked.wanted
        if (subject := faults.attempt(lambda s=source, r=role, n=name: open_tested(s, r, name=n)))
    ]
    faults.settle()
    study = Experiment(
        suite=checked.suite,
        world=checked.world,
        source=request.data,
        subjects=distinct(opened),
        seeds=tuple(range(request.seeds)),
        domain=checked.domain,
        tasks=tuple(request.tasks),
    )
    base = study.undefended()
    plans = [_plan(request, text, base, study) for text in request.defences]
    beside = [text for text in study.suite.beside if text not in request.defences]
    own = [_plan(replace(request, settings=None), text, base, study) for text in beside]
    return study, [*own, *plans, *(part for plan in plans for part in _parts(request, plan, study))]


def _suite(request: Request) -> Suite:
    chosen = suite(request.suite)
    if request.search in ("full", "fresh"):
        chosen = replace(chosen, search=request.search)
    elif request.search is not None:
        raise BadInput(f"--search {request.search}: there are full and fresh.")
    if request.cap is not None and request.cap < 1:
        raise BadInput(f"--cap {request.cap}: a budget of no steps tests nothing; give 1 or more.")
    if request.cap is None:
        return chosen
    return replace(
        chosen,
        cap=request.cap,
        task_steps=min(chosen.task_steps, request.cap),
        sweep_steps=min(chosen.sweep_steps, request.cap),
    )


def _domain(world: World, domain: str | None) -> str:
    name = domain or next(iter(world.hazards))
    if name not in world.hazards:
        raise UnknownName(
            f"{world.name} has no hazard {name!r}.{nearest(name, world.hazards)} "
            f"It has {', '.join(world.hazards)}."
        )
    return name


def _wanted(request: Request, world: World) -> list[tuple[str, Role, str | None]]:
    """Sources with their roles: the references, then the models under test.

    Without a reference of its own, a world takes the first model named as the undefended one.
    """
    models = list(request.models)
    if request.alone:
        return [(models[0], "undefended", None)]
    references = {role: _beside(request.data, name) for role, name in world.references.items()}
    undefended = request.undefended or references.get("undefended")
    oracle = request.oracle or references.get("oracle")
    if undefended is None and models:
        undefended = models.pop(0)
        wanted: list[tuple[str, Role, str | None]] = [(undefended, "undefended", None)]
    else:
        wanted = [(undefended, "undefended", "undefended")] if undefended else []
    if oracle:
        wanted.append((oracle, "oracle", "oracle"))
    taken = {source for source, _, _ in wanted}
    return [*wanted, *((source, "defended", None) for source in models if source not in taken)]


def _beside(data: str, source: str) -> str:
    """A world's own reference: a path in ``data.yaml`` is relative to the data folder."""
    inside = Path(data) / source
    return str(inside) if inside.is_dir() else source


def _plan(request: Request, text: str, base: Subject, study: Experiment) -> Immunisation:
    wanted = planned(
        text,
        request.settings or {},
        study.world[study.domain],
        base=base.digest,
        parameters=base.parameters,
    )
    return replace(wanted, name=text, model=base.folder, title=base.source, source=request.data)


def _parts(request: Request, plan: Immunisation, study: Experiment) -> list[Immunisation]:
    """The same defence with less of the hazard: a draw for each seed at each share."""
    return [
        replace(
            plan, share=share, draw=seed, name=f"{plan.name} with {100 * share:g} % of the hazard"
        )
        for share in sorted(request.shares)
        for seed in study.seeds
    ]


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
) -> Experiment:
    """Carry out immunisations into ``root/models`` and add the results to the study.

    Raises:
        BadInput: a defence failed; the sentence says how.
    """
    jobs = [replace(plan, out=str(root / "models" / plan.key)) for plan in plans]
    if progress:
        progress("immunising", 0, len(jobs))
    for count, ended in enumerate(executor(write, jobs), start=1):
        if ended.status != "ok":
            last = ended.error.strip().splitlines()[-1] if ended.error else ended.status
            label = "+".join(stage.name for stage in ended.job.parts)
            raise BadInput(f"the defence {label} did not finish: {last}")
        if progress:
            progress("immunising", count, len(jobs))
    made = [_made(plan, study.suite.controls) for plan in jobs if plan.share == 1]
    named = distinct([*study.subjects, *made])
    whole = {subject.source: subject.name for subject in named}
    for plan in {job.key: job for job in jobs if job.share < 1}.values():
        of = whole[_place(replace(plan, share=1.0, draw=0))]
        named = (*named, replace(_made(plan), share=share_of(plan, study, of)))
    return replace(study, subjects=named)


def _place(plan: Immunisation) -> str:
    return f"models/{plan.key}"


def _made(plan: Immunisation, controls: Sequence[str] = ()) -> Subject:
    role: Role = "control" if plan.name in controls else "defended"
    return replace(
        open_tested(plan.out, role, name=plan.name),
        source=_place(plan),
        defence="+".join(stage.name for stage in plan.parts),
    )
