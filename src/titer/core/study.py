"""What a study is: models, adversaries, data and seeds, as plain values that are written down.

Readable without torch and without the data. A run folder's ``config.yaml`` holds a
:class:`Manifest`, and every verdict is made from one and from the traces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from titer.core import codec
from titer.core.errors import BadInput
from titer.core.protocol import absolute_threshold

__all__ = ["Benign", "Locks", "Manifest", "Role", "Row", "Share", "Subject"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model under test, ready on disk. ``digest`` is over its files, ``parameters`` its size.

    Models made with a share of the hazard have a name for each share, which the draws have in
    common. ``unusable`` says why nothing can be asked of a model, empty where it can. ``course``
    and ``doubts`` are what the defence that made it wrote down of itself.
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
    maps each suite to its chance score. ``domains`` are the hazards, the one that the models were
    immunised on first. ``not_tested`` says what the suite leaves out. A suite of few adversaries,
    ``quick``, ``search`` or ``supply``, may demote a defence but never certify one.
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

    def __post_init__(self) -> None:
        faults: list[str] = []
        if not self.domains:
            faults.append("domains: a study attacks at least one hazard domain, got none.")
        if not self.seeds:
            faults.append("seeds: a study has at least one seed, got none.")
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
