"""From what a user typed to a study: every fault found before the first training step."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from titer.core import catalogue
from titer.core.bounds import require_number
from titer.core.data import Example, World
from titer.core.errors import BadInput, NotFinite, UnknownName, nearest
from titer.core.files import require_place, require_space
from titer.core.jobs import Progress
from titer.core.modelfolder import folder_digest
from titer.core.records import content_key
from titer.core.study import Role, Study, Subject
from titer.plan.experiment import Experiment
from titer.plan.manifest import claim_folder, read_config
from titer.plan.subjects import compared, distinct, is_testbed, open_subject, open_tested
from titer.plan.suite import Suite, judges, suite_hash
from titer.plan.suites import suite
from titer.trial.immunise import Immunisation, made_from, parse_defence, planned
from titer.trial.shares import check_shares
from titer.worlds.checkup import notices
from titer.worlds.hub import resolve_model
from titer.worlds.organisms import grow_all, parse
from titer.worlds.source import ALMANAC, aimed, load_world, salted, world_salt, world_seed
from titer.worlds.strangers import ELSEWHERE, stranger, world_name

__all__ = [
    "Checked",
    "Faults",
    "assemble",
    "beside",
    "check",
    "dealt",
    "grow_missing",
    "is_testbed",
    "open_subject",
]

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Checked:
    """A study that has passed every check which needs no model to be grown or fetched."""

    asked: Study
    suite: Suite
    world: World
    domain: str
    wanted: tuple[tuple[str, Role, str | None], ...]

    def organisms(self) -> list[str]:
        """The organisms that must be grown first."""
        named = (*(one for one, _, _ in self.wanted), *(one for _, one in self.suite.relatives))
        return [source for source in named if source.startswith("fabula:")]


def dealt(asked: Study, digests: Mapping[str, str] | None = None) -> Study:
    """The study with the testbed's report entities dealt anew, where a model comes from elsewhere,
    or a defence that is carried out here.

    The salt is a hash of the models under test and of such defences, so that nobody knows it before
    they are done, and that the same study has the same. A run folder keeps the one that it has.
    ``digests`` are those of models that are not on disk yet. What is wrong with the study is not
    said here.
    """
    asked = replace(asked, data=aimed(asked.data, asked.target))
    with contextlib.suppress(BadInput):
        if world_seed(asked.data) is None or world_salt(asked.data):
            return asked
        if (asked.out / "config.yaml").is_file():
            kept = read_config(asked.out).study.world_source
            same = kept.partition("~")[0] == asked.data
            return replace(asked, data=kept) if same else asked
        known = digests or {}
        models = [
            known.get(model) or _digest(model)
            for model in asked.models
            if not model.startswith("fabula:")
        ]
        if outside := sorted([*models, *_defences(asked)]):
            return replace(asked, data=salted(asked.data, content_key(outside)[:12]))
    return asked


def _defences(asked: Study) -> Iterator[str]:
    """Hashes of the plug-in defences that a study carries out, with their code and settings; what
    is in titer's own folder is titer, and could as well change the judge."""
    for text in asked.defences:
        for one in parse_defence(text, asked.settings):
            if whose := catalogue.outside("defence", one.name):
                yield content_key([whose, one.name, dict(one.fields), one.version])


def _digest(model: str) -> str:
    """That of a model from elsewhere, whatever is wrong with it: a broken one among others must not
    keep their items from being dealt."""
    folder = Path(model).expanduser()
    return folder_digest(folder) if folder.is_dir() else resolve_model(model).digest


def check(asked: Study, *, alone: bool = False, coming: Collection[str] = ()) -> Checked:
    """Find every fault of a study at once, before anything is grown, fetched or written.

    ``alone`` is for work on one model: without references, and in no run folder. Otherwise ``out``
    must be new or a run folder of the same suite. Models that are ``coming`` are not there yet.

    Raises:
        BadInput: one sentence for each fault.
    """
    asked = replace(asked, data=aimed(asked.data, asked.target))
    faults = Faults()
    chosen = faults.attempt(lambda: _suite(asked))
    world = faults.attempt(lambda: load_world(asked.data))
    own = world_seed(asked.data) is not None or asked.data == ALMANAC
    for notice in notices(world) if world and not own else ():
        _LOG.warning("%s", notice)
    domain = faults.attempt(lambda: _domain(world, asked.domain)) if world else None
    faults.found += _aims(asked, world) if world else ()
    faults.attempt(lambda: require_number("seeds", asked.seeds))
    for text in asked.defences:
        faults.attempt(lambda text=text: parse_defence(text, asked.settings))
    if asked.settings and not asked.defences:
        faults.found.append("--set is for models that are immunised here; add --defence NAME.")
    for task in asked.tasks if world else ():
        if world and task not in world.tasks:
            faults.found.append(
                f"{world.name} has no task {task!r}.{nearest(task, world.tasks)} "
                f"It has {', '.join(world.tasks) or 'none'}."
            )
    if world and domain and asked.shares:
        faults.attempt(lambda: _shares(asked, world.hazards[domain].defend))
    wanted = _wanted(asked, world, alone=alone) if world else []
    named: list[tuple[str, Role]] = [(source, role) for source, role, _ in wanted]
    if not world:
        named = [(source, "defended") for source in asked.models]
    chosen = chosen.around(wanted[0][0]) if chosen and wanted else chosen
    broken: list[str] = []
    for source, role in named:
        if source not in coming:
            faults.attempt(lambda source=source, role=role: _check_model(source, role, broken))
    if world:
        faults.found += _strangers([source for source, _ in named], asked.data)
    if world and wanted and not alone:
        faults.found += _hardened(wanted[0][0], given=asked.undefended is not None)
    if world and not wanted:
        faults.found.append("there is no model to test; name one.")
    faults.attempt(lambda: _claim(asked.out, None if alone else chosen, world))
    faults.found += broken if faults.found else []
    faults.settle()
    if chosen is None or world is None or domain is None:
        raise RuntimeError("a check failed without saying why")
    return Checked(asked, chosen, world, domain, tuple(wanted))


def _aims(asked: Study, world: World) -> Iterator[str]:
    """What is said of data whose harm is another target's."""
    target = catalogue.target(world.harm)
    if asked.target not in (None, target):
        other = "compliance" if asked.target == "refusal" else "choice"
        yield (
            f"--target {asked.target}: {asked.data} measures harm by {world.harm!r}, which makes a "
            f"study of {target}; write harm: {{measure: {other}}} in its data.yaml, or leave "
            "--target out."
        )


def _claim(out: Path, chosen: Suite | None, world: World | None) -> None:
    """Refuse a place that cannot be written, or a folder of other results; without a world there is
    no hash to compare yet."""
    require_place(out, "--out")
    require_space(out, 50 * 2**20)
    if chosen and world:
        known = (out / "config.yaml").exists()  # a new folder has nothing to be compared with
        claim_folder(out, suite_hash(chosen, world.digest(), judges(world)) if known else "")


def _shares(asked: Study, defend: Sequence[Example]) -> None:
    if not asked.defences:
        raise BadInput(
            "--share draws its curve over models that are immunised here; add --defence NAME."
        )
    check_shares(asked.shares, defend)


def _strangers(models: Sequence[str], data: str) -> list[str]:
    """What is said of testbed models that grew in another world than the one they would be asked
    of, whether they are named or lie in a folder, as they grew or immunised."""
    seed = world_seed(data)
    found: list[str] = []
    for source in models if seed is not None else ():
        with contextlib.suppress(UnknownName):  # said where models are checked
            if seed is not None and (home := _home(source, seed)):
                other = f"--data {home.split()[-1]}, or a model of that world"
                advice = "a model of this one" if home == ELSEWHERE else other
                found.append(f"{source} grew in {home} and knows nothing of {data}; give {advice}.")
    return found


def _hardened(undefended: str, *, given: bool) -> list[str]:
    """What is said of a reference that is itself a result: beside it every defence would look
    weak or strong for no reason."""
    if not (made := made_from(Path(undefended).expanduser())):
        return []
    defence, base = made
    advice = f"give {base}" if given else f"add --undefended {base}"
    return [
        f"{undefended} was immunised ({defence} on {base}, by its titer.json), so it cannot be the "
        f"undefended model of a study; {advice}."
    ]


def _home(source: str, seed: int) -> str:
    """In which other world of the testbed a model grew; empty where in this one, or in none."""
    if not source.startswith("fabula:"):
        return stranger(Path(source).expanduser(), seed)
    own = parse(source)[2]
    return f"the world {world_name(own)}" if own != seed else ""


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


def grow_missing(sources: Sequence[str], workers: int, tell: Progress) -> None:
    """Grow whatever organisms are asked for and not there yet, side by side."""
    named = [parse(source) for source in sources if source.startswith("fabula:")]
    for large, seed in dict.fromkeys((large, seed) for _, large, seed in named):
        wanted = [kind for kind, *at in named if at == [large, seed]]
        grow_all(large, kinds=wanted, seed=seed, workers=workers, progress=tell)


def assemble(checked: Checked) -> tuple[Experiment, list[Immunisation]]:
    """The study, and the immunisations that must be made before it can run.

    Raises:
        BadInput: a model that cannot be loaded.
    """
    asked = checked.asked
    faults = Faults()
    opened = [
        _placed(subject, asked.out)
        for source, role, name in checked.wanted
        if (subject := faults.attempt(lambda s=source, r=role, n=name: open_tested(s, r, name=n)))
    ]
    faults.settle()
    base = next(subject for subject in opened if subject.role == "undefended")
    # Locks are made of scales too, and undoing them is what the rows of such a suite are for.
    scales = not checked.suite.controls
    known = [
        faults.attempt(lambda s=subject: compared(s, base, scales=scales)) for subject in opened
    ]
    faults.settle()
    study = Experiment(
        suite=checked.suite,
        world=checked.world,
        source=asked.data,
        subjects=distinct([subject for subject in known if subject]),
        seeds=tuple(range(asked.seeds)),
        domain=checked.domain,
        tasks=tuple(asked.tasks),
    )
    plans = [_plan(asked, text, base, study) for text in asked.defences]
    beside = [text for text in study.suite.beside if text not in asked.defences]
    own = [_plan(replace(asked, settings={}), text, base, study) for text in beside]
    return study, [*own, *plans, *(part for plan in plans for part in _parts(asked, plan, study))]


def _placed(subject: Subject, out: Path) -> Subject:
    """A model that lies in the run folder is known by its place there, wherever that goes."""
    place = Path(subject.source)
    if not place.is_relative_to(out / "models"):
        return subject
    return replace(subject, source=place.relative_to(out).as_posix())


def _suite(asked: Study) -> Suite:
    chosen = suite(asked.suite)
    if asked.search in ("full", "fresh"):
        chosen = replace(chosen, search=asked.search)
    elif asked.search is not None:
        raise BadInput(f"--search {asked.search}: there are full and fresh.")
    if asked.cap is None:
        return chosen
    require_number("cap", asked.cap)
    return replace(
        chosen,
        cap=asked.cap,
        task_steps=min(chosen.task_steps, asked.cap),
        sweep_steps=min(chosen.sweep_steps, asked.cap),
    )


def _domain(world: World, domain: str | None) -> str:
    name = domain or next(iter(world.hazards))
    if name not in world.hazards:
        raise UnknownName(
            f"{world.name} has no hazard {name!r}.{nearest(name, world.hazards)} "
            f"It has {', '.join(world.hazards)}."
        )
    return name


def _wanted(asked: Study, world: World, *, alone: bool) -> list[tuple[str, Role, str | None]]:
    """Sources with their roles: the references, then the models under test.

    Without a reference of its own, a world takes the first model named as the undefended one.
    """
    models = list(asked.models)
    if alone:
        return [(models[0], "undefended", None)]
    references = {role: beside(asked.data, name) for role, name in world.references.items()}
    undefended = asked.undefended or references.get("undefended")
    oracle = asked.oracle or references.get("oracle")
    if undefended is None and models:
        undefended = models.pop(0)
        wanted: list[tuple[str, Role, str | None]] = [(undefended, "undefended", None)]
    else:
        wanted = [(undefended, "undefended", "undefended")] if undefended else []
    if oracle:
        wanted.append((oracle, "oracle", "oracle"))
    taken = {source for source, _, _ in wanted}
    return [*wanted, *((source, "defended", None) for source in models if source not in taken)]


def beside(data: str, source: str) -> str:
    """A world's own reference: a path in ``data.yaml`` is relative to the data folder."""
    inside = Path(data) / source
    return str(inside) if inside.is_dir() else source


def _plan(asked: Study, text: str, base: Subject, study: Experiment) -> Immunisation:
    wanted = planned(
        text,
        asked.settings,
        study.world[study.domain],
        base=base.digest,
        parameters=base.parameters,
    )
    return replace(wanted, name=text, model=base.folder, title=base.source, source=asked.data)


def _parts(asked: Study, plan: Immunisation, study: Experiment) -> list[Immunisation]:
    """The same defence with less of the hazard: a draw for each seed at each share."""
    return [
        replace(
            plan, share=share, draw=seed, name=f"{plan.name} with {100 * share:g} % of the hazard"
        )
        for share in sorted(asked.shares)
        for seed in study.seeds
    ]
