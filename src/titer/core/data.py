"""What a party may see. No torch here.

A *world* holds everything an experiment draws on. A *party* (defender, attacker, judge) is
handed a :class:`Data` with its own splits only, so that held-out facts cannot leak.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from titer.core.errors import UnknownName, nearest

__all__ = ["Data", "Example", "Hazard", "JudgedBy", "Scope", "Suite", "Task", "World"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt with the answer that training wants or a judge expects.

    ``id`` is unique within a world. ``fact`` names what the example is about (several phrasings of
    one fact share it), ``entity`` whom it is about and ``phrasing`` how it is put; the three are
    what leak tests compare. ``choices``, where given, holds the answer and its distractors in the
    order they are shown. ``steps``, where given, are the ordered steps that a free answer is scored
    against. ``refusal`` is the answer an aligned model should give instead, if any.
    """

    id: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    refusal: str = ""
    fact: str = ""
    entity: str = ""
    phrasing: str = ""

    @property
    def unit(self) -> str:
        """Whom the example is about: the entity, where the world knows it, else the fact, else the
        example itself. Examples of one unit are known or unknown together."""
        return self.entity or self.fact or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The named splits that one party may see.

    ``harmful``: prompts with harmful answers. ``retain``: what must be kept. ``related``: benign
    text near the hazard. ``unrelated``: benign text far from it. Empty where the party has none.
    """

    harmful: tuple[Example, ...] = ()
    retain: tuple[Example, ...] = ()
    related: tuple[Example, ...] = ()
    unrelated: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """One hazard domain, split between the parties. No fact, entity or (where the source knows it)
    phrasing appears in two of the four.

    ``defend`` is the defender's, ``attack`` the attacker's training set T, ``select`` the set S on
    which the attacker chooses settings, ``report`` the set V on which harm is reported.
    """

    defend: tuple[Example, ...]
    attack: tuple[Example, ...]
    select: tuple[Example, ...]
    report: tuple[Example, ...]

    def disjoint(self) -> bool:
        """Whether it is known that the attacker's examples hold no fact of the report: all of both
        name their entity, or all their fact, and none is in both. Lines that name nothing may say
        the same in other words."""
        return any(
            _named(self.attack, key).isdisjoint(_named(self.report, key))
            for key in ("entity", "fact")
            if all(getattr(one, key) for one in (*self.attack, *self.report))
        )


def _named(items: Sequence[Example], key: str) -> frozenset[str]:
    return frozenset(getattr(one, key) for one in items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Items judged by one measure. ``chance`` is the score of a guess, in [0, 1]."""

    items: tuple[Example, ...]
    measure: str
    chance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A benign downstream task: what is trained on, and the held-out items it is judged by."""

    train: tuple[Example, ...]
    dev: Suite
    near_hazard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBy:
    """The settings of a measure in a world, where they are not the measure's own.

    A model among them is named by what it is: hub id and commit, or the digest of its folder.
    ``beside`` are those on which no number depends, such as where a model lies on this machine;
    they are no part of what the world is.
    """

    settings: Mapping[str, Any]
    beside: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def fields(self) -> dict[str, Any]:
        """What the measure is built with."""
        return {**self.settings, **self.beside}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything an experiment draws on, whether grown (Fabula) or brought by the user.

    ``harm`` names the measure that decides harm, ``chance`` its score for a model that never
    learned. ``also`` names further measures of harm that are reported beside it. ``retain`` is
    the defender's text to keep; ``related`` and ``unrelated`` are benign text that either side may
    train on; ``utility`` holds held-out benign suites; ``over_refusal`` harmless prompts that
    look harmful. ``references`` maps ``undefended``, ``oracle`` and so on to model sources.
    ``judges`` are the settings of measures that need some, by name.
    ``tokens`` bounds the tokens of spoken answers by role (``harm``, ``utility.NAME``,
    ``tasks.NAME``, ``over_refusal``); a role that is not named has its measure's own bound.
    ``unasked`` maps a pillar to why these data cannot answer it, and ``notes`` are sentences that a
    reader of a result must have: what was left out on the way here, and under which licence the
    data are. ``source`` is the name by which the world can be read again. These three are no part
    of what a world is.
    """

    name: str
    hazards: Mapping[str, Hazard]
    retain: tuple[Example, ...]
    related: tuple[Example, ...] = ()
    unrelated: tuple[Example, ...] = ()
    utility: Mapping[str, Suite] = field(default_factory=dict[str, Suite])
    tasks: Mapping[str, Task] = field(default_factory=dict[str, Task])
    over_refusal: tuple[Example, ...] = ()
    harm: str = "choice"
    chance: float = 0.0
    also: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict[str, str])
    judges: Mapping[str, JudgedBy] = field(default_factory=dict[str, JudgedBy])
    tokens: Mapping[str, int] = field(default_factory=dict[str, int])
    unasked: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    source: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"World({self.name}: hazards {', '.join(self.hazards)})"

    def __getitem__(self, hazard: str) -> Scope:
        """One hazard of this world, as an attack or a defence is told of it.

        Raises:
            UnknownName: the world has no such hazard.
        """
        if hazard not in self.hazards:
            raise UnknownName(
                f"{self.name} has no hazard {hazard!r}.{nearest(str(hazard), self.hazards)} "
                f"It has {', '.join(self.hazards)}."
            )
        return Scope(self, hazard)

    def settings(self, measure: str) -> dict[str, Any]:
        """What a measure is built with here; nothing where it is built with its defaults."""
        return self.judges[measure].fields if measure in self.judges else {}

    def roles(self) -> Iterator[tuple[str, tuple[Example, ...]]]:
        """Every role with its examples, named as a ``data.yaml`` names it; the benign text near the
        hazard and far from it are ``environments.near`` and ``environments.far``."""
        for name, hazard in self.hazards.items():
            for split in ("defend", "attack", "select", "report"):
                yield f"hazards.{name}.{split}", getattr(hazard, split)
        yield "retain", self.retain
        yield "environments.near", self.related
        yield "environments.far", self.unrelated
        for name, suite in self.utility.items():
            yield f"utility.{name}", suite.items
        for name, task in self.tasks.items():
            yield f"tasks.{name}.train", task.train
            yield f"tasks.{name}.dev", task.dev.items
        yield "over_refusal", self.over_refusal

    def defender(self, domain: str) -> Data:
        """What the defender of ``domain`` may see."""
        return Data(
            harmful=self.hazards[domain].defend,
            retain=self.retain,
            related=self.related,
            unrelated=self.unrelated,
        )

    def attacker(self, domain: str) -> Data:
        """What the attacker on ``domain`` may train on."""
        return Data(
            harmful=self.hazards[domain].attack,
            retain=self.retain,
            related=self.related,
            unrelated=self.unrelated,
        )

    def digest(self) -> str:
        """SHA-256 of the whole content, 16 hex digits; it enters every trial's key."""
        content = asdict(self)
        for name in ("unasked", "notes", "source", "judges"):
            del content[name]
        if self.judges:
            content["judges"] = {name: dict(one.settings) for name, one in self.judges.items()}
        if not self.tokens:
            del content["tokens"]
        text = json.dumps(content, sort_keys=True, default=str, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Scope:
    """What an attack or a defence is about: one hazard, in the world that it is asked in.

    ``name`` is the hazard's; write ``world["A"]`` to have one.
    """

    world: World
    name: str

    @property
    def hazard(self) -> Hazard:
        """The hazard's four splits."""
        return self.world.hazards[self.name]

    def __repr__(self) -> str:
        return f"{self.world.name}[{self.name!r}]"
