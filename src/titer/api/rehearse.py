"""What a study or a single step would take, found out without taking it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from titer.api.estimate import Needed, Pricing, RowCost, by_row, pricing
from titer.core.bounds import require_number
from titer.core.data import Data, Scope
from titer.core.errors import BadInput
from titer.core.files import require_place
from titer.core.jobs import Progress
from titer.core.lm import LM
from titer.core.records import Kind, Part, Trace, Trial
from titer.core.study import Study, Subject
from titer.models import load
from titer.plan import experiment as plan
from titer.plan.experiment import Experiment
from titer.plan.fresh_seeds import finals
from titer.plan.further import diagnoses
from titer.plan.request import (
    Checked,
    assemble,
    beside,
    check,
    dealt,
    grow_missing,
    open_subject,
)
from titer.run.defended import share_of
from titer.run.runner import unique
from titer.trial.immunise import Immunisation, parse_defence, planned, require_own
from titer.trial.presets import FAMILIES, adversary, is_testbed
from titer.verify.rerun import plan as jobs_again
from titer.worlds import organisms
from titer.worlds.source import load_world

__all__ = [
    "Estimate",
    "again",
    "attack",
    "bench",
    "chunk",
    "clean_of",
    "immunise",
    "needed",
    "priced",
    "scope_of",
    "settled",
    "ungrown",
]


def ungrown(asked: Study, *, alone: bool = False) -> list[str]:
    """The organisms that would have to be grown before anything else can be told.

    Raises:
        BadInput: everything that is wrong with the study.
    """
    return [
        source
        for source in (_alone(asked) if alone else check(asked)).organisms()
        if organisms.cached(*organisms.parse(source)) is None
    ]


def scope_of(asked: Study, tell: Progress) -> Scope:
    """The hazard for work on one model, once model, data and folder are seen to be fit; an organism
    that is not there is grown.

    Raises:
        BadInput: everything that is wrong with them.
    """
    checked = _alone(asked)
    grow_missing(asked.models, 1, tell)
    return checked.world[checked.domain]


def clean_of(asked: Study, lm: LM) -> LM | None:
    """The model whose interface an attacker takes: the one that is named, else the data's own
    undefended model where it has this one's tensors.

    Raises:
        BadInput: the one that is named cannot be loaded.
    """
    if asked.undefended:
        return load(asked.undefended)
    own = load_world(asked.data).references.get("undefended")
    clean = load(beside(asked.data, own)) if own else None
    return clean if clean and _shapes(clean) == _shapes(lm) else None


def _shapes(lm: LM) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in lm.model.named_parameters()}


def settled(asked: Study, steps: int | None, *, defence: str = "", attack: str = "") -> None:
    """Say what is wrong with a method, its settings, its budget or the folder for its result,
    before anything is grown.

    Raises:
        BadInput: it is wrong.
    """
    out = asked.out
    if defence:
        parse_defence(defence, asked.settings)
        require_place(out, "--out", "new folder")
        require_own(out)
    if asked.undefended:
        open_subject(asked.undefended, "undefended")
    if attack:
        adversary(attack, asked.settings, 0)
        if out.exists() and any(out.iterdir()) and not (out / "trace.json").exists():
            raise BadInput(f"{out} exists and holds no attack; choose another --out.")
    if steps is not None:
        require_number("steps", steps)


def immunise(asked: Study, defence: str, steps: int | None, seed: int) -> Immunisation:
    """The immunisation that ``titer immunise`` would carry out.

    Raises:
        BadInput: see :func:`settled`, or the model cannot be opened.
    """
    scope, study, base = _opened(asked)
    whose = {"base": base.digest, "parameters": base.parameters}
    made = planned(defence, asked.settings, scope, **whose, steps=steps, seed=seed)
    return replace(
        made, model=base.folder, title=asked.models[0], source=study.source, out=str(asked.out)
    )


def attack(asked: Study, name: str, steps: int | None, seed: int) -> Trial:
    """The trial that ``titer attack`` would run.

    Raises:
        BadInput: see :func:`settled`, or the model cannot be opened.
    """
    scope, study, base = _opened(asked)
    return adversary(name, asked.settings, base.parameters).trial(
        scope,
        model=base.digest,
        subject=base.name,
        suite=study.suite_digest,
        items=study.suite.items,
        steps=steps,
        seed=seed,
    )


def needed(asked: Study, work: Immunisation | Trial) -> Needed:
    """What one immunisation or attack would take, on the threads that the command would use.

    Raises:
        BadInput: see :func:`settled`, or the model cannot be loaded.
    """
    _, study, base = _opened(asked)
    prices = priced(study, base.source, 1 if is_testbed(base.parameters) else None)
    if isinstance(work, Immunisation):
        return prices.immunising(work, study.world)
    return prices.attacking(work, study.world)


def chunk(
    kind: Kind, lm: LM, parts: Sequence[Part], data: Data, steps: int, memory: int
) -> int | None:
    """The most tokens of one pass with which methods train in so many bytes; None where they need
    not be bounded. The model is measured for that, and comes back to the bit.

    Raises:
        BadInput: one row at a time would need more.
    """
    prices = pricing(lm, data.harmful, None)
    return prices.chunk(kind, parts, data, steps, memory)


def _opened(asked: Study) -> tuple[Scope, Experiment, Subject]:
    checked = _alone(asked)
    study, _ = assemble(checked)
    return checked.world[checked.domain], study, study.undefended()


def _alone(asked: Study) -> Checked:
    """Settings are those of the one method, and of no defence of a study."""
    return check(replace(asked, settings={}), alone=True)


def again(root: Path, keys: Sequence[str]) -> list[Trial]:
    """The trials that would be run to run some of a run folder again: with those that trained
    beside them.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    return [trial for job in jobs_again(root, keys, root) for trial in job.trials]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a study would take: ``models`` in all, ``immunisations`` among them. Rows that do not
    break a model are tried at ``further_rates`` more at most, whose trials are not counted;
    ``seconds`` of wall clock on so many ``workers`` of an idle machine, None where something does
    not fit, each with so much memory, the program included. ``rows`` are the dearest first;
    ``outlast`` those of which a trial would take longer than it may. ``unpriced`` parts could not
    be tried and are in no figure.
    """

    models: tuple[Subject, ...]
    immunisations: int
    trials: int
    further_rates: int
    steps: int
    seconds: int | None
    memory_bytes_per_worker: int | None
    workers: int
    rows: tuple[RowCost, ...] = ()
    outlast: tuple[str, ...] = ()
    unpriced: int = 0


def bench(
    asked: Study, workers: int, timeout: float = math.inf, prices: Pricing | None = None
) -> Estimate:
    """What a study would take, by what its undefended model takes here.

    Raises:
        BadInput: everything that is wrong with it.
    """
    study, plans = assemble(check(dealt(asked)))
    base = study.undefended()
    made = [
        replace(
            base,
            name=one.key,
            digest=one.key,
            role="defended",
            share=share_of(one, study, one.name),
        )
        for one in plans
    ]
    study = replace(study, subjects=(*study.subjects, *made))
    trials = _trials(study)
    prices = prices or priced(study, base.source)
    rows, memory, unpriced = by_row(prices, study, trials)
    making = [prices.immunising(one, study.world) for one in plans]
    parts = [*(row.seconds for row in rows), *(one.seconds for one in making)]
    sizes = [memory, *(one.memory for one in making)]
    return Estimate(
        models=study.subjects,
        immunisations=len(plans),
        trials=len(trials),
        further_rates=study.suite.rungs - 1,
        steps=sum(trial.budget.steps or 0 for trial in trials) + sum(one.steps for one in plans),
        seconds=None if None in (*parts, *sizes) else round(sum(filter(None, parts)) / workers),
        memory_bytes_per_worker=None if None in sizes else max(filter(None, sizes)),
        workers=workers,
        rows=tuple(rows),
        outlast=tuple(row.row for row in rows if row.dearest > timeout),
        unpriced=unpriced + sum(one.guessed for one in making),
    )


def priced(study: Experiment, source: str, threads: int | None = 1) -> Pricing:
    """The prices of a model on a study's hazard, as one worker has them."""
    return pricing(source, study.world.hazards[study.domain].attack, threads, study.world)


def _trials(study: Experiment) -> list[Trial]:
    """All trials of a study, at rates that stand in for those that calibration finds."""
    rates = dict.fromkeys(FAMILIES, 1.0)
    attacks = plan.attacks(study, rates)
    # Which settings will be the best of a search is not known, only how many are run again.
    attacks += finals(study, [Trace(trial=trial, status="failed") for trial in attacks])
    looks = diagnoses(study, rates)
    return unique([*plan.calibration(study), *attacks, *plan.training(study, rates), *looks])
