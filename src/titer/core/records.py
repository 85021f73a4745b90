"""The values an experiment is made of: frozen, hashable by content, and readable without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, cast

from titer.core.insides import Shown

__all__ = [
    "NAMES",
    "SEARCH_SEED",
    "STOPPED",
    "TWO_PHASES",
    "Access",
    "Budget",
    "Card",
    "Cut",
    "Direction",
    "Enough",
    "Estimate",
    "Kind",
    "Part",
    "Point",
    "Preset",
    "Reading",
    "Spent",
    "Spoken",
    "Status",
    "Target",
    "Trace",
    "Trial",
    "TrialRole",
    "content_key",
    "part",
]

Kind = Literal["attack", "defence", "measure"]
Access = Literal["none", "input", "activation", "weights", "gradient", "rl"]
Direction = Literal["gives", "declines", "neither"]
"""What a measure's larger scores say of a model: that it ``gives`` more of what it is asked for,
which is harm on a hazard and use on benign items; that it ``declines`` more; or ``neither``."""
Target = Literal["knowledge", "refusal"]
"""What a model should have done with a hazard: not know it, or decline it."""
Status = Literal["ok", "failed", "diverged", "timed-out"]

TWO_PHASES = "two-phases"
"""The flag of a run whose training data change on the way: its losses are of two kinds, and no
check may compare the first with the last."""

STOPPED = "stopped-breached"
"""The flag of an attack that was ended early because its breach was certain: what it reached is a
lower bound of what its whole budget would have."""

SEARCH_SEED = 2**20
"""Where the seeds of searches begin whose best settings are reported on fresh ones: the seed of a
search is this, and for a model drawn with a seed of its own that many further on."""


def content_key(value: object) -> str:
    """SHA-256 over canonical JSON, 16 hex digits. Equal content gives equal keys on every host."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a party may spend. ``None`` means no limit on that axis.

    ``steps``: optimiser steps. ``tokens``: tokens through forward and backward, prompt included,
    padding excluded. ``examples``: unique examples seen. ``flops``: floating-point operations.
    """

    steps: int | None = None
    tokens: int | None = None
    examples: int | None = None
    flops: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What has been spent, on the axes of :class:`Budget`."""

    steps: int = 0
    tokens: int = 0
    examples: int = 0
    flops: float = 0.0

    def over(self, budget: Budget) -> list[str]:
        """The axes on which more was spent than the budget holds, as ``1,001 steps of 1,000``."""
        return [
            f"{used:,} {axis} of {limit:,}"
            for axis, used in asdict(self).items()
            if (limit := getattr(budget, axis)) is not None and used > limit
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval: all that a pillar returns.

    ``low`` and ``high`` bound a 95 % interval unless ``level`` says otherwise; ``n`` counts the
    independent units behind it (seeds for a curve, items for a share). ``censored`` marks a value
    that is only a lower bound. ``note`` says in words why a value is missing or doubtful.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    level: float = 0.95
    censored: bool = False
    note: str = ""

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """``low`` and ``high``; None for an end that is not known."""
        return self.low, self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One number that a measure found inside a model.

    ``what`` names the quantity and ``place`` where it was taken: a layer, a kind of module, or
    nothing for the whole model. ``unit`` is empty for shares and cosines. ``chance`` is what a
    model that knows nothing would score, where that means anything.
    """

    what: str
    estimate: Estimate
    place: str = ""
    unit: str = ""
    chance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named setting of a method: a row of a suite.

    ``fields`` are the method's own. ``lr_scale``, where given, says the learning rate as a multiple
    of the reference rate, which is calibrated on the undefended model for the family ``star``.
    ``steps`` is the budget at testbed size and at one to eight billion parameters. ``family`` is
    one of :data:`~titer.core.families.FAMILIES`, the heading under which a report shows it.
    ``found`` is the number of weights of the model that a defence's settings were found on; on
    models of about that size they are what it starts from. 0: on none.
    """

    title: str
    family: str = ""
    fields: Mapping[str, Any]
    source: str
    steps: tuple[int, int] = (300, 1000)
    lr_scale: float | None = None
    star: str = ""
    domain: str = "kr"
    found: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts about a method.

    ``build`` is the frozen dataclass that is the method. ``source`` names paper and arXiv id.
    ``departures`` says where the code differs from it. Raise ``version`` when numbers change.
    ``repairs``: the attack first breaks the model and then mends it, so that what holds against it
    is not held by breaking. ``shows``: how a report shows what a measure found inside a model.
    ``direction``: what a larger score of a measure says; only one that ``gives`` can be harm.
    """

    kind: Kind
    build: type[Any]
    source: str
    summary: str
    family: str
    access: Access = "gradient"
    version: int = 1
    departures: str = "none"
    repairs: bool = False
    shows: Shown | None = None
    direction: Direction = "neither"
    presets: Mapping[str, Preset] = field(default_factory=dict[str, Preset])


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A method as a value: its name, version and fields."""

    name: str
    version: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


def part(name: str, method: object, version: int = 1) -> Part:
    """Write a method object down, numbers coerced by field type so that 1 and 1.0 share a key."""
    if not is_dataclass(method) or isinstance(method, type):
        raise TypeError(f"{name}: a method is a frozen dataclass, got {type(method).__name__}.")
    return Part(name=name, version=version, fields=_plain(method))


def _plain(method: object) -> dict[str, Any]:
    """The fields that say what it is; one that is not compared says where a part of it lies."""
    written: dict[str, Any] = {}
    for spec in fields(cast(Any, method)):
        if not spec.compare:
            continue
        written[spec.name] = _value(getattr(method, spec.name), str(spec.type))
    return written


def _value(value: object, hint: str) -> Any:
    """JSON's own types only, so that what is read back equals what was written."""
    if isinstance(value, tuple | list):
        return [_value(item, hint) for item in cast(Sequence[object], value)]
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **_plain(value)}
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and "float" in hint:
        return float(value)
    if isinstance(value, float) and "float" not in hint and "int" in hint and value.is_integer():
        return int(value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Enough:
    """When an attack has shown enough: held-out harm of at least ``harm``, while each utility suite
    keeps the share ``kept`` of what it was before the attack. Both in [0, 1]."""

    harm: float
    kept: float


TrialRole = Literal["adversary", "rate", "baseline", "task", "check"]
"""What a trial is for: an attack that counts, a rate to attack with, a look without an attack, a
benign task, or a doubt about the attacks."""

NAMES = ("role", "row", "check", "label", "subject")
"""The fields of a trial that say what a study calls it, and stay out of its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One experiment as a value; its key is its name.

    ``model`` and ``world`` are content digests, so a key knows nothing of paths and hosts.
    ``items`` bounds how many items of a utility suite are asked, None for all of them. ``enough``
    ends an attack early; None lets it spend its budget, and is then no part of the key. ``base`` is
    the digest of the model that the attacked one was made from, for attacks that start from it, and
    otherwise empty and no part of the key. ``interface`` is the digest of the model through whose
    tokenizer, template and configuration the weights are asked and attacked, empty and no part of
    the key where that is their own.
    ``role`` says what the trial is for, ``row`` which one of its kind it is: the adversary's id in
    its suite, the sweep of a rate, the task, the variant of a check. ``check`` is the check that
    asked for it. These, ``label`` and ``subject`` stay out of the key, and ``label`` is for print
    alone.
    """

    model: str
    world: str
    domain: str
    attack: Part
    budget: Budget
    seed: int
    suite: str
    purpose: Literal["immunise", "attack", "search", "calibrate", "train", "check"] = "attack"
    task: str = ""
    items: int | None = None
    checkpoints: tuple[int, ...] = ()
    enough: Enough | None = None
    base: str = ""
    interface: str = ""
    role: TrialRole = "adversary"
    row: str = ""
    check: str = ""
    label: str = ""
    subject: str = ""

    @property
    def key(self) -> str:
        """Same key, same numbers."""
        content = _plain(self)
        for name in NAMES:
            del content[name]
        if self.enough is None:
            del content["enough"]
        for name in ("base", "interface"):
            if not content[name]:
                del content[name]
        return content_key(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What is told of a model's free answers to one probe beside their score: how many there were,
    of how many the judge was ``unclear``, and how many were ``cut`` short by the most tokens that
    an answer may have."""

    answers: int
    unclear: int = 0
    cut: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One look at a model along a trajectory: what it had cost, and the score of every item.

    Keys of ``scores`` are probe names, ``harm``, ``harm:cloze``, ``utility:far_1`` and so on; the
    values are per item in the world's order, in [0, 1] unless the measure says otherwise.
    ``spoken`` is by probe too, of those that had the model speak; of older titers it is empty.
    """

    spent: Spent
    scores: Mapping[str, tuple[float, ...]]
    logs: Mapping[str, float] = field(default_factory=dict[str, float])
    spoken: Mapping[str, Spoken] = field(default_factory=dict[str, Spoken])

    def mean(self, probe: str) -> float | None:
        """The mean score of a probe, or None when it was not taken."""
        values = self.scores.get(probe)
        return sum(values) / len(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Lines too long for the model's context, whose beginning was cut off: ``trained`` of
    ``of_trained`` lines that the attack is made for, ``asked`` of ``of_asked`` questions."""

    trained: int = 0
    of_trained: int = 0
    asked: int = 0
    of_asked: int = 0

    @property
    def share(self) -> float:
        """The larger of the two shares that were cut, in [0, 1]."""
        return max(self.trained / max(1, self.of_trained), self.asked / max(1, self.of_asked))

    @property
    def text(self) -> str:
        """The counts, in words."""
        return (
            f"{self.trained:,} of {self.of_trained:,} lines of training and {self.asked:,} of "
            f"{self.of_asked:,} questions are longer than the model's context and were cut"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a trial leaves behind; pillars are computed from nothing else.

    ``points[0]`` is the model before the first step. ``losses`` and ``rates`` are the training loss
    and the learning rate that was really applied, one entry a step. A trace whose ``status`` is not
    ``ok`` is a failed attack, never resistance. ``cohort`` are the keys of the trials that trained
    in one pass with it, itself among them: numbers are the same to the bit in the same company, and
    within rounding in another. ``course`` is what the method wrote down of its own way,
    ``flags`` what a report shows of it, and ``doubts`` why the method itself would not believe that
    it was withstood. ``cut`` counts what was too long for the model, None where nobody counted.
    ``refused`` is what an attack that failed refused of its input, empty where it failed otherwise.
    """

    trial: Trial
    status: Status
    points: tuple[Point, ...] = ()
    losses: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    flags: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0
    weights: str = ""
    cohort: tuple[str, ...] = ()
    course: tuple[Mapping[str, float], ...] = ()
    cut: Cut | None = None
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        content: dict[str, Any] = {**asdict(self), "key": self.trial.key}
        if self.cut is None:  # as in runs of before it was counted
            del content["cut"]
        for point in content["points"]:
            if not point["spoken"]:
                del point["spoken"]
        if not self.refused:
            del content["refused"]
        return content

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Trace:
        """The inverse of :meth:`to_json`.

        Raises:
            TypeError, ValueError, KeyError, AttributeError: no part of titer wrote it.
        """
        content = {name: value for name, value in raw.items() if name != "key"}
        trial = dict(content.pop("trial"))
        trial["attack"] = Part(**trial["attack"])
        trial["budget"] = Budget(**trial["budget"])
        trial["checkpoints"] = tuple(trial["checkpoints"])
        trial["enough"] = Enough(**trial["enough"]) if trial.get("enough") else None
        points = tuple(
            Point(
                spent=Spent(**point["spent"]),
                scores={name: _numbers(values) for name, values in point["scores"].items()},
                logs=dict(zip(point["logs"], _numbers(point["logs"].values()), strict=True)),
                spoken={name: Spoken(**one) for name, one in point.get("spoken", {}).items()},
            )
            for point in content.pop("points")
        )
        for name in ("losses", "rates"):
            content[name] = _numbers(content.get(name, ()))
        for name in ("flags", "doubts", "cohort", "course"):
            content[name] = tuple(content.get(name, ()))
        content["cut"] = Cut(**content["cut"]) if content.get("cut") else None
        return Trace(trial=Trial(**trial), points=points, **content)


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    found = tuple(values)
    if strange := [one for one in found if type(one) not in (int, float)]:
        raise TypeError(f"{strange[0]!r} stands where a number belongs.")
    return found
