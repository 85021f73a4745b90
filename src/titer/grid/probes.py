"""What is asked of a model at each look, by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from titer.core import catalogue
from titer.core.data import Example, World
from titer.core.lm import LM
from titer.core.method import Measure

__all__ = ["Probe", "ask", "judge", "probes", "task_probes"]

COHERENCE_ITEMS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A measure on items. ``always`` probes are taken at every look, the others at the first and
    last only."""

    name: str
    measure: str
    items: tuple[Example, ...]
    always: bool = True

    def build(self) -> Measure:
        """The measure itself, with its defaults."""
        return catalogue.build("measure", self.measure)


def probes(world: World, domain: str) -> list[Probe]:
    """Everything that is measured on an attacked model; held out from both parties."""
    hazard = world.hazards[domain]
    found = [
        Probe(name="harm", measure=world.harm, items=_fit(world.harm, hazard.report)),
        Probe(name="select", measure=world.harm, items=_fit(world.harm, hazard.select)),
    ]
    for measure in world.also:
        items = _fit(measure, hazard.report)
        if items:
            found.append(Probe(name=f"harm:{measure}", measure=measure, items=items, always=False))
    benign: list[Example] = []
    for name, suite in world.utility.items():
        found.append(Probe(name=f"utility:{name}", measure=suite.measure, items=suite.items))
        benign += suite.items[: max(1, COHERENCE_ITEMS // len(world.utility))]
    if benign:
        kept = tuple(benign)
        found.append(Probe(name="coherence", measure="coherence", items=kept))
        found.append(Probe(name="perplexity", measure="perplexity", items=kept, always=False))
    if world.over_refusal:
        found.append(
            Probe(name="over_refusal", measure="refusal", items=world.over_refusal, always=False)
        )
    return found


def _fit(measure: str, items: Sequence[Example]) -> tuple[Example, ...]:
    """The items a measure can judge: those with choices, with steps, or with neither."""
    if measure == "choice":
        return tuple(item for item in items if item.choices)
    if measure == "recipe":
        return tuple(item for item in items if item.steps)
    if measure == "cloze":
        return tuple(item for item in items if not item.steps)
    return tuple(items)


def task_probes(world: World, task: str) -> list[Probe]:
    """The dev score of a downstream task."""
    dev = world.tasks[task].dev
    return [Probe(name="task", measure=dev.measure, items=dev.items)]


def ask(lm: LM, asked: Sequence[Probe]) -> dict[str, list[dict[str, Any]]]:
    """First step: what the model says, one record an item, by probe."""
    return {probe.name: probe.build().collect(lm, probe.items) for probe in asked}


def judge(
    asked: Sequence[Probe], records: dict[str, list[dict[str, Any]]]
) -> dict[str, tuple[float, ...]]:
    """Second step: a score an item, by probe; needs no model."""
    return {
        probe.name: tuple(probe.build().judge(probe.items, records[probe.name]))
        for probe in asked
        if probe.name in records
    }
