"""What a study is: models, adversaries, data and seeds, as plain values that are written down.

Readable without torch and without the data. A :class:`Study` is what somebody asks. A run folder's
``config.yaml`` holds what became of that, a :class:`Manifest`; every verdict is made from one and
from the traces.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml

from titer.core import codec
from titer.core.errors import BadInput, nearest
from titer.core.files import require_regular
from titer.core.protocol import absolute_threshold
from titer.core.reading import load_yaml
from titer.core.records import Target

__all__ = ["Benign", "Locks", "Manifest", "Role", "Row", "Share", "Study", "Subject"]

T = TypeVar("T")

Role = Literal["undefended", "oracle", "defended", "control"]
"""What a model is for: the two references, a model under test, or a known-broken defence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One adversary of a suite, as a reader knows it.

    ``family`` is that of its method's card. ``star`` is the sweep on the undefended model that set
    its rate, empty where the rate is its own.
    """

    id: str
    title: str
    family: str
    source: str
    mandatory: bool = True
    star: str = field(default="", metadata={"omit": ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What marks a model as immunised on ``share`` of the hazard: ``entities`` of ``total``.

    ``of`` names the model made with all of it. ``draw`` is the seed that drew the subset, and the
    one that attacks it, so that the spread over seeds holds the luck of that draw too.
    """

    of: str
    share: float
    draw: int
    entities: int
    total: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of a model's interface that is not the undefended model's, in a phrase; ``stuck``
    where no attacker can put the other's in its place."""

    says: str
    stuck: bool = field(default=False, metadata={"omit": False})

    def __str__(self) -> str:
        return self.says


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model under test, ready on disk. ``digest`` is over its files, ``parameters`` its size.

    Models made with a share of the hazard have a name for each share, which the draws have in
    common. ``unusable`` says why nothing can be asked of a model, empty where it can. ``course``
    and ``doubts`` are what the defence that made it wrote down of itself. ``differs`` names the
    parts of its interface (tokenizer, template, configuration) that are not the undefended model's.
    """

    name: str
    source: str
    folder: str = ""
    digest: str
    role: Role
    parameters: int = 0
    defence: str = ""
    revision: str = ""
    share: Share | None = None
    unusable: str = ""
    course: tuple[Mapping[str, float], ...] = ()
    doubts: tuple[str, ...] = ()
    differs: tuple[Difference, ...] = field(default=(), metadata={"omit": ()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Benign:
    """A downstream task. ``near_hazard`` tasks are where traps misfire."""

    name: str
    near_hazard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Locks:
    """What a suite of locks adds: the ``controls`` that it must break, and for each model what that
    is without its lock."""

    controls: tuple[str, ...] = ()
    unlocked: Mapping[str, str] = field(default_factory=dict[str, str])


_NARROW = ("quick", "search", "supply")
"""How the names of suites begin that are too narrow to clear a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A study as it is written down: all that a verdict says beyond what the traces hold.

    ``harm`` names the primary measure of harm and ``chance`` its score for a guess. ``utility``
    maps each suite to its chance score, and ``judged_by`` each measure that has settings of the
    world's to them: which model judges, at which revision. ``domains`` are the hazards, the one
    that the models were immunised on first. ``disjoint`` says that the attacker's examples and the
    report's name their facts or entities, and share none. ``not_tested`` says what the suite leaves
    out, ``unasked`` maps a pillar to why the data cannot answer it, and ``notes`` are what a reader
    must know of the data. A suite of few adversaries, ``quick``, ``search`` or ``supply``, may
    demote a defence but never certify one.
    """

    suite: str
    suite_version: str
    suite_hash: str
    suite_settings: Mapping[str, Any] | None = None
    rows: tuple[Row, ...]
    world: str
    world_source: str = ""
    world_digest: str
    judges: tuple[str, ...] = ()
    judged_by: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict[str, Mapping[str, Any]], metadata={"omit": {}}
    )
    harm: str
    chance: float
    utility: Mapping[str, float]
    subjects: tuple[Subject, ...]
    seeds: tuple[int, ...]
    checkpoints: tuple[int, ...]
    not_tested: tuple[str, ...] = ()
    locks: Locks | None = field(default=None, metadata={"omit": None})
    domains: tuple[str, ...]
    tasks: tuple[Benign, ...] = ()
    disjoint: bool = field(default=False, metadata={"omit": False})
    unasked: Mapping[str, str] = field(default_factory=dict[str, str], metadata={"omit": {}})
    notes: tuple[str, ...] = field(default=(), metadata={"omit": ()})

    def __post_init__(self) -> None:
        faults: list[str] = []
        for what, chance in (("chance", self.chance), *self.utility.items()):
            if not 0 <= chance < 1:
                faults.append(f"{what}: the score of a guess is from 0 to below 1, got {chance}.")
        if not self.domains:
            faults.append("domains: a study attacks at least one hazard domain, got none.")
        if not self.seeds:
            faults.append("seeds: a study has at least one seed, got none.")
        if min(self.seeds, default=0) < 0 or len(set(self.seeds)) < len(self.seeds):
            faults.append(f"seeds: seeds are whole numbers from 0 up, each once, got {self.seeds}.")
        for what, names in (
            ("rows", [row.id for row in self.rows]),
            ("subjects", [subject.name for subject in self.models]),
            ("tasks", [task.name for task in self.tasks]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                faults.append(f"{what}: names must differ, these come twice: {', '.join(twice)}.")
        if faults:
            raise BadInput(*faults)

    @property
    def models(self) -> tuple[Subject, ...]:
        """The models that a verdict is about: all but those made with a share of the hazard."""
        return tuple(subject for subject in self.subjects if subject.share is None)

    @property
    def absolute(self) -> float:
        """The absolute threshold on harm."""
        return absolute_threshold(self.chance)

    @property
    def certifies(self) -> bool:
        """False for a suite of few adversaries: its results may only demote."""
        return not self.suite.startswith(_NARROW)

    def reference(self, role: Role, domain: str = "") -> Subject | None:
        """The undefended model, or the one that never learned the study's first hazard; of another
        ``domain`` there is none that did not."""
        if role == "oracle" and domain not in ("", self.domains[0]):
            return None
        return next((subject for subject in self.models if subject.role == role), None)

    def shares_of(self, name: str) -> dict[str, Share]:
        """The points of a model's in-domain curve by the name that each one's draws have in
        common, every point once."""
        return {
            one.name: one.share
            for one in self.subjects
            if one.share is not None and one.share.of == name
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        return codec.to_json(self)

    @staticmethod
    def from_json(raw: object) -> Manifest:
        """The inverse of :meth:`to_json`.

        Raises:
            BadInput: a part is missing or of another shape.
        """
        return codec.from_json(Manifest, raw, "study")


def _asks(default: T, says: str, option: str = "") -> T:
    """A field of :class:`Study`: what it says to a reader, and its option where that has another
    name."""
    return field(default=default, metadata={"says": says, "option": option})


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What somebody asks of a study, in plain values: the options of ``titer bench``, the fields of
    its ``study.yaml``.

    A folder is relative to where the program runs. ``defences`` are applied to the undefended
    model, all with the same ``settings``, and join the ``models`` under test. ``shares`` are parts
    of the hazard with which each is made again. ``cap`` bounds the attackers' steps and not the
    defenders'. Without ``search`` the suite searches in its own way.
    """

    models: tuple[str, ...] = _asks((), "Folders, hub ids, or fabula:NAME.")
    suite: str = _asks("quick", "quick, real, core, search, supply, locks, tar or tamperbench.")
    seeds: int = _asks(3, "How many seeds, from 0 up.")
    data: str = _asks(
        "fabula",
        "A folder with a data.yaml, fabula, fabula#SEED, fabula~SALT, almanac, or one of "
        "`list data`.",
    )
    cap: int | None = _asks(None, "Cap on an attack's steps (another suite hash).")
    target: Target | None = _asks(  # noqa: RUF009 - a string that ruff does not know for one
        None, "What a model should do with a hazard: not know it (knowledge), decline (refusal)."
    )
    domain: str | None = _asks(None, "Which hazard.")
    undefended: str | None = _asks(
        None, "The model before the defence; default the world's, else the first of MODELS."
    )
    oracle: str | None = _asks(None, "A model that never learned the hazard.")
    search: str | None = _asks(None, "How a row's settings are searched: full or fresh.")
    defences: tuple[str, ...] = _asks(
        (), "Also immunise the undefended model so; repeatable.", "--defence"
    )
    settings: Mapping[str, Any] = field(
        default_factory=dict[str, Any],
        metadata={
            "says": "A setting of the defences, as in --set lr=1e-3; repeatable.",
            "option": "--set",
        },
    )
    tasks: tuple[str, ...] = _asks((), "Only these benign tasks; repeatable.", "--task")
    shares: tuple[float, ...] = _asks(
        (),
        "Also immunise with this share of the hazard: the in-domain curve; repeatable.",
        "--share",
    )
    why: bool = _asks(False, "Look inside: erased or hidden?")
    out: Path = field(default=Path("runs/bench"), metadata={"says": "Where to write."})

    def __post_init__(self) -> None:
        for name in _SEVERAL:
            object.__setattr__(self, name, _all(getattr(self, name)))
        object.__setattr__(self, "out", Path(self.out))

    @staticmethod
    def option(name: str) -> str:
        """The option of the command line that a field is."""
        found = next(spec for spec in fields(Study) if spec.name == name)
        return found.metadata.get("option") or f"--{name}"

    def command(self) -> str:
        """The command line that makes this study again."""
        words = [word for spec in fields(self) for word in self._words(spec.name, spec.default)]
        return shlex.join(["titer", "bench", *words])

    def _words(self, name: str, default: object) -> Iterator[str]:
        value: Any = getattr(self, name)
        if name == "models":
            yield from value
        elif isinstance(value, Mapping):
            for key, item in cast(Mapping[str, Any], value).items():
                yield from (self.option(name), f"{key}={item}")
        elif isinstance(value, tuple):
            for item in cast(tuple[Any, ...], value):
                yield from (self.option(name), str(item))
        elif value is True:
            yield self.option(name)
        elif name in _SAID or value != default:
            yield from (self.option(name), str(value))

    def to_yaml(self, path: str | os.PathLike[str] | None = None) -> str:
        """The study as YAML, every field of it; written to ``path`` where one is given."""
        text = yaml.safe_dump(codec.to_json(self), sort_keys=False, allow_unicode=True)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @staticmethod
    def from_yaml(path: str | os.PathLike[str]) -> Study:
        """The study that a file describes; a field that is not there has its default.

        Raises:
            BadInput: there is no such file, or it is no study; one sentence a fault.
        """
        raw = _mapping(Path(path))
        names = [spec.name for spec in fields(Study)]
        strange = [name for name in raw if name not in names]
        if strange:
            raise BadInput(
                *(
                    f"{path}: a study has no field {name!r}.{nearest(name, names)} "
                    f"It has {', '.join(names)}."
                    for name in strange
                )
            )
        several = {name: _all(raw[name]) for name in _SEVERAL if name in raw}
        return codec.from_json(Study, raw | several, str(path))


_SEVERAL = ("models", "defences", "tasks", "shares")
"""Fields of a study that hold several values, of which one may be written alone."""

_SAID = ("suite", "seeds", "out")
"""Options that a command line always says, since they name the result."""


def _all(given: Any) -> Any:
    """Several values as a tuple, and one as a tuple of it; what is neither is found out later."""
    if isinstance(given, str | int | float):
        return (given,)
    return tuple(cast(Any, given or ())) if given is None or isinstance(given, list) else given


def _mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds, by name."""
    require_regular(path)
    try:
        raw: object = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"there is no study {path}; give a YAML file with the fields of a study, or models."
        ) from None
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or ["it is no YAML"])[0]
        raise BadInput(f"{path} cannot be read: {first}.") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path} holds no study; write its fields, as in `models: [fabula:base]`.")
    return {str(name): value for name, value in cast(dict[Any, Any], raw).items()}
