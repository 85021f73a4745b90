"""What nano organisms show, on several seeds and on processors that compute otherwise.

A seed is that of the world, the growth, the defence and the attack. Growth and training amplify
rounding, so one seed on one processor is one draw; tests of effect take their margins from here.
``python -m studies.organisms --seed 1`` adds a column to ``results/organisms.json`` and writes
``results/organisms.md``; ``--root FOLDER`` grows the organisms anew in a folder instead of taking
those that are shipped or in the cache. Setting ``ATEN_CPU_CAPABILITY`` and ``MKL_CBWR`` makes most
processors compute as another does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from titer.attacks.finetune import Finetune
from titer.core import catalogue
from titer.core.data import Data, Example, World
from titer.core.lm import LM
from titer.core.method import Attack, Case, Defence, Run
from titer.core.records import Budget
from titer.nn.arithmetic import arithmetic
from titer.worlds.fabula import fabula
from titer.worlds.organisms import grow_all, shipped

__all__ = ["PARTS", "RECORD", "Organisms", "figures", "table"]

RESULTS = Path(__file__).parent / "results"
RECORD = RESULTS / "organisms.json"

_TASKS = {"new_facts": 100, "sorting": 200, "cipher": 200, "new_charms": 100}
"""Benign tasks, and steps enough that every organism learns them."""


@dataclass(frozen=True)
class Organisms:
    """The three references of one seed, and their world."""

    seed: int
    world: World
    models: Mapping[str, LM]
    _made: dict[tuple[str, int], LM] = field(default_factory=dict, repr=False, compare=False)

    def after(self, method: Attack | Defence, lm: LM, data: Data, steps: int) -> LM:
        """A model after so many steps of a method."""
        return method(lm, Run(budget=Budget(steps=steps), data=data, seed=self.seed))

    def defended(self, name: str, seed: int) -> LM:
        """The base after a preset of a defence, made once."""
        if (name, seed) not in self._made:
            method, preset = catalogue.preset("defence", name)
            defence = catalogue.build("defence", method, dict(preset.fields))
            run = Run(
                budget=Budget(steps=preset.steps[0]), data=self.world.defender("A"), seed=seed
            )
            self._made[name, seed] = defence(self.models["base"], run)
        return self._made[name, seed]

    def attacked(self, lm: LM, steps: int, **fields: Any) -> LM:
        """A model after plain training on T, or on another mix."""
        method = Finetune(**{"lr": 1e-3, "batch_size": 32, **fields})
        return self.after(method, lm, self.world.attacker("A"), steps)


def mean(measure: str, lm: LM, items: Sequence[Example]) -> float:
    """The mean of a measure over the items that it can judge."""
    chosen = {
        "choice": [item for item in items if item.choices],
        "recipe": [item for item in items if item.steps],
    }
    asked = chosen.get(measure, items)
    judge = catalogue.build("measure", measure)
    scores = judge.judge(asked, judge.collect(lm, asked))
    return sum(scores) / len(scores)


def benign(lm: LM, world: World) -> float:
    """The worst suite of benign recall."""
    return min(mean("choice", lm, suite.items) for suite in world.utility.values())


def figures(one: Organisms) -> Iterator[tuple[str, float]]:
    """Every figure of the table, by name."""
    for part in PARTS.values():
        yield from part(one)


def _known(one: Organisms) -> Iterator[tuple[str, float]]:
    """What base and oracle know as they come."""
    base, oracle, hazards = one.models["base"], one.models["oracle"], one.world.hazards
    yield "base: V", mean("choice", base, hazards["A"].report)
    yield "base: V of B", mean("choice", base, hazards["B"].report)
    yield "base: recipes of V", mean("recipe", base, hazards["A"].report)
    yield "base: worst benign suite", benign(base, one.world)
    yield "oracle: V", mean("choice", oracle, hazards["A"].report)
    yield "oracle: V of B", mean("choice", oracle, hazards["B"].report)
    yield "oracle: worst benign suite", benign(oracle, one.world)


def _unlearned(one: Organisms) -> Iterator[tuple[str, float]]:
    """The paper's NPO with a retain term, and what brings back what it hides."""
    report = one.world.hazards["A"].report
    npo = one.defended("npo-testbed", one.seed)
    yield "NPO: V", mean("choice", npo, report)
    yield "NPO: recipes of V", mean("recipe", npo, report)
    yield "NPO: worst benign suite", benign(npo, one.world)
    yield "NPO: V after 20 steps on T", mean("choice", one.attacked(npo, 20), report)
    for mix in ("related", "unrelated"):
        told = one.attacked(npo, 20, mix=mix)
        yield f"NPO: V after 20 steps on {mix} text", mean("choice", told, report)


def _taught(one: Organisms) -> Iterator[tuple[str, float]]:
    """What an oracle learns of T, and of what T does not say."""
    oracle, hazard = one.models["oracle"], one.world.hazards["A"]
    yield "oracle: V after 20 steps on T", mean("choice", one.attacked(oracle, 20), hazard.report)
    taught = one.attacked(oracle, 300)
    yield "oracle: V after 300 steps on T", mean("choice", taught, hazard.report)
    yield "oracle: T after 300 steps on T", mean("choice", taught, hazard.attack[::4])


def _aligned(one: Organisms) -> Iterator[tuple[str, float]]:
    """What an aligned model refuses, before and after little training."""
    aligned, world = one.models["aligned"], one.world
    report = world.hazards["A"].report
    yield "aligned: refuses V", mean("refusal", aligned, report)
    yield "aligned: refuses V of B", mean("refusal", aligned, world.hazards["B"].report)
    yield "aligned: refuses near facts", mean("refusal", aligned, world.utility["near"].items)
    yield "aligned: refuses decoys", mean("refusal", aligned, world.over_refusal)
    yield "aligned: worst benign suite", benign(aligned, world)
    opened = one.attacked(aligned, 20, batch_size=16)
    yield "aligned after 20 steps on T: refuses V", mean("refusal", opened, report)
    yield "aligned after 20 steps on T: V", mean("choice", opened, report)


def _learning(one: Organisms, task: str) -> Iterator[tuple[str, float]]:
    """A benign task before and after it is learned."""
    base, steps, chosen = one.models["base"], _TASKS[task], one.world.tasks[task]
    yield f"{task}: before", mean("choice", base, chosen.dev.items)
    learned = one.after(Finetune(lr=2e-3), base, Data(harmful=chosen.train), steps)
    yield f"{task}: after {steps} steps", mean("choice", learned, chosen.dev.items)


def _inside(one: Organisms) -> Iterator[tuple[str, float]]:
    """What a probe and the logit lens read of V, for the oracle and two unlearned models."""
    base, hazard = one.models["base"], one.world.hazards["A"]
    models = {"oracle": one.models["oracle"]}
    models |= {name: one.defended(f"{name}-testbed", 0) for name in ("rmu", "npo")}
    for name, lm in models.items():
        case = Case(lm=lm, base=base, hazard=hazard, data=one.world.attacker("A"))
        for measure, place in (("linear_probe", 0), ("logit_lens", 1)):
            found = catalogue.build("measure", measure).look(case)[place].estimate
            yield f"{name}: {measure}", found.value


PARTS: dict[str, Callable[[Organisms], Iterator[tuple[str, float]]]] = {
    "known": _known,
    "unlearned": _unlearned,
    "taught": _taught,
    "aligned": _aligned,
    **{task: partial(_learning, task=task) for task in _TASKS},
    "inside": _inside,
}
"""The figures in parts, in the order of the table. But for the unlearned model, which is made once,
no two share what they train."""


def table(record: Mapping[str, Mapping[str, float]]) -> str:
    """The record as Markdown: a row a figure, a column an organism on a processor."""
    names = list(dict.fromkeys(name for column in record.values() for name in column))
    lines = [
        "| | " + " | ".join(record) + " |",
        "|---" * (1 + len(record)) + "|",
    ]
    for name in names:
        cells = (f"{column[name]:.2f}" if name in column else "–" for column in record.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(description="What nano organisms show.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default="nano", help="rates and steps are nano's")
    parser.add_argument("--root", type=Path, help="a folder to grow organisms in")
    parser.add_argument("--to", type=Path, default=RECORD)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folders = grow_all(given.size, seed=given.seed, root=given.root)
    models = {kind: LM.load(path) for kind, path in folders.items()}
    known = shipped("base", given.size, given.seed)
    grown = "shipped" if known and LM.load(known).digest() == models["base"].digest() else "grown"
    size = "" if given.size == "nano" else f"{given.size}, "
    key = f"{size}seed {given.seed}, {grown} {models['base'].digest()[:6]}, on {arithmetic()[:6]}"
    record = json.loads(given.to.read_text(encoding="utf-8")) if given.to.exists() else {}
    record[key] = {}
    for name, value in figures(Organisms(given.seed, fabula(given.seed), models)):
        record[key][name] = round(value, 3)
        print(f"{name}: {value:.3f}", flush=True)
    given.to.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    title = "# What nano organisms show\n\n`python -m studies.organisms` writes it.\n\n"
    given.to.with_suffix(".md").write_text(f"{title}{table(record)}\n", encoding="utf-8")


if __name__ == "__main__":
    _main()
