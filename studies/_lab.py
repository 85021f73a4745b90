"""Defences made with a seed each and attacked with the same seed, through the grid.

A study asks about methods, not about a release, so a defence is made anew for every seed. Models
lie under ``models/``, trials under ``trials/``; what is there is not made again, so that a study
can be stopped, resumed and widened, and two studies in one folder share what they have in common.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from titer.core.data import World
from titer.core.jobs import Executor
from titer.core.records import Trace, Trial
from titer.core.study import Subject
from titer.executors.inline import Inline
from titer.executors.processes import Processes
from titer.plan.experiment import Experiment
from titer.plan.request import open_subject
from titer.plan.suite import Suite
from titer.run.runner import run_trials
from titer.run.store import Store
from titer.trial.immunise import Immunisation, parse_defence, write
from titer.trial.presets import adversary
from titer.worlds.source import load_world

__all__ = ["ORACLE", "UNDEFENDED", "Adversary", "Arm", "Lab", "Made", "executing"]

UNDEFENDED, ORACLE = "undefended", "oracle"
_LOOKS = (0, 3, 10, 40, 100)
"""When an attack is looked at, besides its last step: a look costs as much as ten steps."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A defence under study: a name for the tables, a method of the catalogue, its budget.

    Arms of a lower ``rank`` run first, for all seeds, so that what matters most is there first.
    """

    name: str
    defence: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    steps: int
    rank: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """An attack under study, likewise. ``elsewhere``: on the world's second hazard, which no arm is
    told to forget. ``items`` of each utility suite are asked, the lab's number where it is None.
    """

    name: str
    attack: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    steps: int
    elsewhere: bool = False
    items: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A model ready to be attacked, and the floating-point operations that its defence took."""

    subject: Subject
    seed: int
    flops: float = 0.0


@contextmanager
def executing(workers: int) -> Iterator[Executor]:
    """This process for one worker, a pool for more."""
    if workers == 1:
        yield Inline()
        return
    with Processes(workers) as pool:
        yield pool


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Where a study is carried out: a folder, a world, its two references and an executor.

    ``items`` bounds how many items of each utility suite are asked, ``cap`` the steps of every
    defence and every attack, to try a study out. A ``still`` lab runs nothing and tells what is
    there.
    """

    root: Path
    executor: Executor
    source: str = "fabula"
    undefended: str = "fabula:base"
    oracle: str = "fabula:oracle"
    items: int = 8
    cap: int | None = None
    still: bool = False
    say: Say = print

    @cached_property
    def world(self) -> World:
        """The world under study."""
        return load_world(self.source)

    @cached_property
    def domain(self) -> str:
        """The hazard under study: the world's first."""
        return next(iter(self.world.hazards))

    @cached_property
    def references(self) -> dict[str, Subject]:
        """The undefended model and the one that never learned, by name."""
        return {
            UNDEFENDED: open_subject(self.undefended, "undefended", name=UNDEFENDED),
            ORACLE: open_subject(self.oracle, "oracle", name=ORACLE),
        }

    def capped(self, steps: int) -> int:
        """A budget, no larger than the cap."""
        return steps if self.cap is None else min(steps, self.cap)

    def make(self, arms: Sequence[Arm], seed: int) -> dict[str, Made]:
        """The arms' models for one seed, by name, the references among them.

        An arm whose defence fails is left out, and said; the tables show a gap.
        """
        base = self.references[UNDEFENDED]
        plans = {arm.name: self._plan(arm, base, seed) for arm in arms}
        missing = {plan.key: plan for plan in plans.values() if not _facts(Path(plan.out)).exists()}
        todo = [] if self.still else list(missing.values())
        for count, ended in enumerate(self.executor(write, todo), start=1):
            note = "" if ended.status == "ok" else f" {ended.status}: {ended.error[-400:]}"
            self.say(f"seed {seed}: made {count} of {len(todo)}: {ended.job.name}{note}")
        found = {name: Made(subject=one, seed=seed) for name, one in self.references.items()}
        for name, plan in plans.items():
            if _facts(Path(plan.out)).exists():
                found[name] = Made(
                    subject=open_subject(plan.out, "defended", name=name),
                    seed=seed,
                    flops=_flops(Path(plan.out)),
                )
        return found

    def _plan(self, arm: Arm, base: Subject, seed: int) -> Immunisation:
        plan = Immunisation(
            parts=parse_defence(arm.defence, arm.fields),
            base=base.digest,
            world=self.world.digest(),
            domain=self.domain,
            steps=self.capped(arm.steps),
            seed=seed,
            name=arm.name,
            model=base.folder,
            title=base.source,
            source=self.source,
        )
        return replace(plan, out=str(self.root / "models" / plan.key))

    def attack(
        self, made: Mapping[str, Made], adversaries: Sequence[Adversary]
    ) -> dict[tuple[str, str], Trace]:
        """Every adversary on every model, with the seed the model was made with, by both names."""
        if not made:
            return {}
        study = Experiment(
            suite=Suite(name="studies", version="v1", rows=(), items=self.items),
            world=self.world,
            source=self.source,
            subjects=tuple({one.subject.digest: one.subject for one in made.values()}.values()),
            seeds=tuple(sorted({one.seed for one in made.values()})),
            domain=self.domain,
        )
        trials = {
            (name, wanted.name): self._trial(study, one, wanted)
            for name, one in made.items()
            for wanted in adversaries
        }
        store = Store(self.root)
        seed = study.seeds[0]
        if not self.still:
            run_trials(
                study,
                store,
                list(trials.values()),
                self.executor,
                f"seed {seed}: attacks",
                lambda label, done, total: self.say(f"{label}: {done} of {total}"),
            )
        return {key: store.get(trial.key) for key, trial in trials.items() if _ended(store, trial)}

    def _trial(self, study: Experiment, made: Made, wanted: Adversary) -> Trial:
        one = adversary(wanted.attack, wanted.fields, made.subject.parameters)
        steps = self.capped(wanted.steps)
        domain = list(self.world.hazards)[-1] if wanted.elsewhere else self.domain
        trial = study.trial(
            made.subject,
            one.attack,
            steps,
            made.seed,
            row=wanted.name,
            label=wanted.name,
            domain=domain,
        )
        looks = tuple(sorted({*_LOOKS, steps} & {*range(steps + 1)}))
        return replace(trial, checkpoints=looks, items=wanted.items or self.items)


def _ended(store: Store, trial: Trial) -> bool:
    return (store.folder(trial.key) / "status.json").exists()


def _facts(folder: Path) -> Path:
    return folder / "titer.json"


def _flops(folder: Path) -> float:
    return float(json.loads(_facts(folder).read_text(encoding="utf-8"))["spent"]["flops"])
