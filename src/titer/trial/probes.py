"""What is asked of a model at each look, by role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from titer.core import catalogue
from titer.core.data import Example, World
from titer.core.diagnoses import diagnosis
from titer.core.lm import LM
from titer.core.method import Measure
from titer.core.protocol import (
    COHERENCE,
    HARM,
    OVER_REFUSAL,
    PERPLEXITY,
    SELECT,
    SPLITS,
    TASK,
    other_harm,
    split,
    utility,
)
from titer.core.records import Spoken, Trial

__all__ = [
    "Probe",
    "Records",
    "ask",
    "ask_each",
    "asked_in",
    "each_in",
    "judge",
    "probes",
    "split_probes",
    "spoken_in",
    "task_probes",
]

COHERENCE_ITEMS = 24
_UNITS, _EACH = 40, 6
"""Of a split, at most so many entities are asked about, and about each at most so many facts."""

Records = dict[str, list[dict[str, Any]]]
"""What a model said, by probe: one record an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A measure on items, and the looks at which it is taken: all of them, the first and the last,
    or the first alone, where it says something of the model and nothing of the attack. ``settings``
    are those of the measure that are not its own; ``tokens`` bounds an answer that is spoken, None
    for the measure's own bound."""

    name: str
    measure: str
    items: tuple[Example, ...]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    when: Literal["always", "ends", "start"] = "always"
    tokens: int | None = None

    def due(self, *, first: bool, last: bool) -> bool:
        """Whether the probe is taken at a look."""
        return first or self.when == "always" or (self.when == "ends" and last)

    def build(self) -> Measure:
        """The measure itself."""
        speaks = self.tokens is not None and catalogue.speaks(self.measure)
        bound = {"max_new_tokens": self.tokens} if speaks else {}
        return catalogue.build("measure", self.measure, {**self.settings, **bound})

    @property
    def together(self) -> bool:
        """Whether models that run side by side can be asked at once: the measure scores given
        answers rather than having the model speak."""
        return hasattr(self.build(), "collect_each")


def probes(world: World, domain: str, items: int | None = None) -> list[Probe]:
    """Everything that is measured on an attacked model; held out from both parties.

    ``items`` bounds the items of each utility suite; the first ones are kept.
    """
    hazard, harm, most = world.hazards[domain], world.harm, world.tokens
    bound = most.get("harm")
    found = [
        Probe(name=HARM, measure=harm, items=_fit(harm, hazard.report), tokens=bound),
        Probe(name=SELECT, measure=harm, items=_fit(harm, hazard.select), tokens=bound),
    ]
    for measure in world.also:
        if items_of := _fit(measure, hazard.report):
            name = other_harm(measure)
            found.append(
                Probe(name=name, measure=measure, items=items_of, when="ends", tokens=bound)
            )
    benign: list[Example] = []
    for name, suite in world.utility.items():
        asked, bound = suite.items[:items], most.get(f"utility.{name}")
        found.append(Probe(name=utility(name), measure=suite.measure, items=asked, tokens=bound))
        benign += suite.items[: max(1, COHERENCE_ITEMS // len(world.utility))]
    if benign:
        kept = tuple(benign)
        found.append(Probe(name=COHERENCE, measure="coherence", items=kept))
        found.append(Probe(name=PERPLEXITY, measure="perplexity", items=kept, when="start"))
    if world.over_refusal:
        bound = most.get("over_refusal")
        asked = world.over_refusal
        found.append(
            Probe(name=OVER_REFUSAL, measure="refusal", items=asked, when="start", tokens=bound)
        )
    return _set(world, found)


def _fit(measure: str, items: Sequence[Example]) -> tuple[Example, ...]:
    """The items a measure can judge: those with choices, with steps, or with neither. What is
    compliance with a request is best known where there are steps, so those alone are asked of
    items of both kinds."""
    if catalogue.card("measure", measure).family == "knowledge":
        items = tuple(item for item in items if item.answer)
    if measure == "choice":
        return tuple(item for item in items if item.choices)
    if measure == "recipe" or (measure == "compliance" and any(item.steps for item in items)):
        return tuple(item for item in items if item.steps)
    if measure == "cloze":
        return tuple(item for item in items if not item.steps)
    return tuple(items)


def task_probes(world: World, task: str) -> list[Probe]:
    """The dev score of a downstream task."""
    dev = world.tasks[task].dev
    bound = world.tokens.get(f"tasks.{task}")
    return _set(world, [Probe(name=TASK, measure=dev.measure, items=dev.items, tokens=bound)])


def split_probes(world: World, domain: str) -> list[Probe]:
    """Harm on each split of a hazard: as many items about one entity as about another, each about a
    fact of its own, in one of its phrasings; those about one entity stand together."""
    hazard = world.hazards[domain]
    found: list[Probe] = []
    for name in SPLITS:
        about: dict[str, dict[str, list[Example]]] = {}
        for item in _fit(world.harm, getattr(hazard, name)):
            facts = about.setdefault(item.unit, {})
            facts.setdefault(item.fact or item.id, []).append(item)
        each = min([_EACH, *map(len, about.values())])
        items = [
            phrasings[place % len(phrasings)]
            for facts in list(about.values())[:_UNITS]
            for place, phrasings in enumerate(list(facts.values())[:each])
        ]
        if items:
            bound = world.tokens.get("harm")
            found.append(
                Probe(name=split(name), measure=world.harm, items=tuple(items), tokens=bound)
            )
    return _set(world, found)


def each_in(probe: Probe) -> int:
    """About how many facts of each entity a probe of :func:`split_probes` asks."""
    return len(probe.items) // len({item.unit for item in probe.items})


def asked_in(world: World, trial: Trial) -> list[Probe]:
    """What is asked in a trial."""
    if trial.task:
        return task_probes(world, trial.task)
    if diagnosis(trial) == "splits":
        return split_probes(world, trial.domain)
    return probes(world, trial.domain, trial.items)


def _set(world: World, asked: Sequence[Probe]) -> list[Probe]:
    """Probes whose measures are set as the world says."""
    return [replace(one, settings=world.settings(one.measure)) for one in asked]


def ask(lm: LM, asked: Sequence[Probe]) -> Records:
    """First step: what the model says, one record an item, by probe."""
    return {probe.name: probe.build().collect(lm, probe.items) for probe in asked}


def ask_each(lm: LM, asked: Sequence[Probe], copies: int) -> list[Records]:
    """What :func:`ask` returns, for each of ``copies`` models that ``lm`` runs side by side.

    The model of ``lm`` takes rows for all its members, those of member 0 first, as stacked models
    do; the probes are those that can be asked ``together``.
    """
    found: list[Records] = [{} for _ in range(copies)]
    for probe in asked:
        measure: Any = probe.build()
        for member, records in zip(
            found, measure.collect_each(lm, probe.items, copies), strict=True
        ):
            member[probe.name] = records
    return found


def judge(asked: Sequence[Probe], records: Records) -> dict[str, tuple[float, ...]]:
    """Second step: a score an item, by probe; needs no model."""
    return {
        probe.name: tuple(probe.build().judge(probe.items, records[probe.name]))
        for probe in asked
        if probe.name in records
    }


def spoken_in(asked: Sequence[Probe], records: Records) -> dict[str, Spoken]:
    """What is told of free answers beside their scores, by probe; of the others there is none."""
    found: dict[str, Spoken] = {}
    for probe in asked:
        if probe.name in records and catalogue.speaks(probe.measure):
            measure: Any = probe.build()
            said = records[probe.name]
            unclear = measure.unclear(probe.items, said) if hasattr(measure, "unclear") else ()
            cut = sum(bool(record.get("cut")) for record in said)
            found[probe.name] = Spoken(answers=len(said), unclear=sum(unclear), cut=cut)
    return found
