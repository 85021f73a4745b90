"""What a study, a defence or an attack would take here: seconds and bytes.

The passes are counted on a stand-in (:mod:`titer.trial.toll`), priced at the model's own pace
(:mod:`titer.trial.pace`), and made as long as its rows are in its own tokens. Left out: what is
worked out on weights alone, such as decompositions, and the rates that a row tries where its first
does not work.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from titer.core import catalogue
from titer.core.config import layers
from titer.core.data import Data, Example, World
from titer.core.diagnoses import diagnosis
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget, Kind, Part, Trial, content_key
from titer.models import Model, load
from titer.plan.experiment import Experiment
from titer.run.cohorts import cohorts, room
from titer.trial.attempt import prepare
from titer.trial.diagnose import diagnose
from titer.trial.immunise import Immunisation
from titer.trial.pace import Pace, measured, spoken_length
from titer.trial.probes import Probe, ask
from titer.trial.toll import Toll, counted, stand_in

__all__ = ["Needed", "Pricing", "free_memory", "pricing"]

_SHORT, _LONG = 2, 5
"""Steps of the two runs on the stand-in from which a longer one is told."""
_SAMPLE = 48
_SPEAKS = 8
_ASKED = 4096
"""Tokens that the stand-in takes: no row is cut, as none would be of the real tokenizer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """An estimate: ``seconds`` of one worker, None where it does not fit in memory at all, and the
    most ``memory`` in bytes of a process that does it. ``guessed`` counts parts that could not be
    tried on the stand-in and are not in it."""

    seconds: float | None
    memory: int | None
    guessed: int = 0


@dataclass
class Pricing:
    """A model's prices. ``ratio`` is how many of its own tokens a token of the stand-in is; a row
    has ``width`` of them in the mean, an answer of it at most ``answer``."""

    lm: LM
    pace: Pace
    ratio: float
    width: int
    answer: int
    stand: LM
    _known: dict[str, Toll | None] = field(default_factory=dict[str, Any])

    # -- parts ----------------------------------------------------------------------------------

    def method(self, kind: Kind, part: Part, data: Data, steps: int) -> Toll | None:
        """The toll of a method in so many steps; None where the stand-in is nothing for it."""
        return self._kept(
            [kind, part.name, _shape(part.fields), steps],
            lambda: self._tried(
                catalogue.build(kind, part.name, dict(part.fields)),
                data,
                steps,
            ),
        )

    def _tried(self, method: Any, data: Data, steps: int) -> Toll:
        short = self._run(method, data, min(steps, _SHORT))
        if steps <= _SHORT:
            return short
        long = self._run(method, data, min(steps, _LONG))
        return long.stretched(short, max(0, steps - _LONG) / (_LONG - _SHORT))

    def _run(self, method: Any, data: Data, steps: int) -> Toll:
        run = Run(budget=Budget(steps=steps), data=data, base=lambda: self.stand)
        return self._counted(lambda: method(self.stand, run))

    def asking(self, probes: Sequence[Probe]) -> Toll | None:
        """The toll of asking all these once."""
        names = [[probe.name, probe.measure, len(probe.items), probe.items[:1]] for probe in probes]
        return self._kept(
            ["ask", repr(names)], lambda: self._counted(lambda: ask(self.stand, probes))
        )

    def looking(self, trial: Trial, world: World) -> Toll | None:
        """The toll of a diagnosis."""
        said = [trial.attack.name, trial.domain]
        return self._kept(
            ["look", *said],
            lambda: self._counted(lambda: diagnose(self.stand, self.stand, trial, world)),
        )

    def _counted(self, work: Callable[[], object]) -> Toll:
        with counted(self.stand, spoken=self.answer) as toll:
            work()
        return toll().longer(self.ratio)

    def _kept(self, key: Sequence[Any], make: Callable[[], Toll]) -> Toll | None:
        name = content_key(list(key))
        if name not in self._known:
            try:
                self._known[name] = make()
            except Exception:  # what a method cannot do to a stand-in says nothing of the model
                self._known[name] = None
        return self._known[name]

    # -- work -----------------------------------------------------------------------------------

    def immunising(self, plan: Immunisation, world: World) -> Needed:
        """One immunisation."""
        data, stages = world.defender(plan.domain), plan.parts
        steps = plan.steps // len(stages)
        return self.total([(self.method("defence", one, data, steps) for one in stages)], [1])

    def attacking(self, trial: Trial, world: World) -> Needed:
        """One attack by itself, asked before its first step too."""
        return self.total([self._parts(trial, world, first=True)], [1])

    def group(self, trials: Sequence[Trial], world: World) -> Needed:
        """Trials in one pass: the model is called once for all of them."""
        tolls = [list(self._parts(trial, world, first=False)) for trial in trials]
        return self.total(tolls, [1] + [0] * (len(tolls) - 1))

    def _parts(self, trial: Trial, world: World, *, first: bool) -> Iterable[Toll | None]:
        if diagnosis(trial):
            yield self.looking(trial, world)
            return
        data, probes = prepare(trial, world)
        steps = trial.budget.steps or 0
        yield self.method("attack", trial.attack, data, steps)
        looks = len(trial.checkpoints) - 1
        always = [probe for probe in probes if probe.when == "always"]
        ends = [probe for probe in probes if probe.when == "ends"]
        for several, times in ((always, max(1, looks)), (ends, 1), (probes, int(first))):
            for probe in several if times else ():
                toll = self.asking([probe])
                yield toll and toll.times(times)

    def chunk(
        self, kind: Kind, parts: Sequence[Part], data: Data, steps: int, memory: int
    ) -> int | None:
        """Into how many tokens a pass must be divided so that methods train in so many bytes; None
        where they do as they are.

        Raises:
            BadInput: one row at a time would need more.
        """
        found: int | None = None
        for part in parts:
            toll = self.method(kind, part, data, steps) or Toll()
            needs = self.pace.needs(toll)
            if needs is not None and needs <= memory:
                continue
            tokens = self.pace.room(toll, memory)
            if tokens < self.width:
                least = self.pace.least(toll, self.width)
                raise BadInput(
                    f"{part.name} needs {least / 2**20:,.0f} MiB even one row at a time, and "
                    f"--memory allows {memory / 2**20:,.0f}; give more, a smaller batch_size, or "
                    "parameters=lora."
                )
            found = tokens if found is None else min(found, tokens)
        return found

    def total(self, tolls: Sequence[Iterable[Toll | None]], calls: Sequence[float]) -> Needed:
        """Work of one or several, of whose calls so many count."""
        whole, guessed = Toll(), 0
        for parts, share in zip(tolls, calls, strict=True):
            for toll in parts:
                guessed += toll is None
                whole += (toll or Toll()).called(share)
        seconds = self.pace.takes(whole)
        return Needed(
            seconds=None if seconds is None else seconds + self.pace.once * len(tolls),
            memory=self.pace.needs(whole, beside=0),
            guessed=guessed,
        )


def pricing(
    source: Model,
    examples: Sequence[Example],
    threads: int | None = None,
    world: World | None = None,
) -> Pricing:
    """Load a model and measure it on rows as long as these; ``world`` says what else is asked."""
    import torch

    lm = load(source)
    if threads is not None:
        torch.set_num_threads(threads)
    stand = stand_in(layers(lm.model.config), _ASKED, [*examples, *_everything(world)])
    sample = list(examples[:_SAMPLE])
    own, others = (sum(_length(one, example) for example in sample) for one in (lm, stand))
    width = max(2, round(own / max(1, len(sample))))
    pace = measured(lm, width, free=free_memory())
    answer = spoken_length(lm, [example.prompt for example in sample[:_SPEAKS]])
    ratio = own / max(1, others)
    return Pricing(lm=lm, pace=pace, ratio=ratio, width=width, answer=answer, stand=stand)


def _everything(world: World | None) -> Iterator[Example]:
    if world is None:
        return
    for hazard in world.hazards.values():
        for split in (hazard.report, hazard.select, hazard.defend, hazard.attack):
            yield from split
    for suite in world.utility.values():
        yield from suite.items
    yield from world.over_refusal
    for task in world.tasks.values():
        yield from (*task.train, *task.dev.items)


def _length(lm: LM, example: Example) -> int:
    return len(lm.encode(example.prompt, example.answer, limit=lm.context_length()).ids)


def _shape(fields: Mapping[str, Any]) -> Any:
    """Fields without what changes no pass: rates."""
    return {key: value for key, value in fields.items() if key not in ("lr", "weight_decay")}


def free_memory() -> int | None:
    """Bytes of memory that there are for the taking; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            said = dict(line.split(":", 1) for line in file)
        return int(said["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
        return os.sysconf(names[0]) * os.sysconf(names[1]) if names[0] in os.sysconf_names else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCost:
    """What one row of a study takes in all, in seconds of one worker, and its dearest trial."""

    row: str
    trials: int
    seconds: float
    dearest: float


def by_row(
    prices: Pricing, study: Experiment, trials: Sequence[Trial]
) -> tuple[list[RowCost], int | None, int]:
    """The cost of every row, the dearest first; the most memory, None where something does not fit;
    and how many trials could not be priced."""
    parameters = {subject.digest: subject.parameters for subject in study.subjects}
    runs = [trial for trial in trials if not diagnosis(trial)]
    groups = cohorts(runs, lambda trial: room(study, parameters[trial.model], trial))
    groups += [[trial] for trial in trials if diagnosis(trial)]
    found: dict[str, list[float]] = defaultdict(list)
    memory: int | None = 0
    guessed = 0
    for group in groups:
        needed = prices.group(group, study.world)
        guessed += needed.guessed
        fits = memory is not None and needed.memory is not None
        memory = max(memory or 0, needed.memory or 0) if fits else None
        for trial in group:
            share = (needed.seconds or 0.0) / len(group)
            found[_name(trial)].append(share)
    rows = [
        RowCost(row=row, trials=len(costs), seconds=sum(costs), dearest=max(costs))
        for row, costs in found.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds), memory, guessed


def _name(trial: Trial) -> str:
    return trial.label or trial.row or trial.role
