"""The way a study goes: which trials come next, given what the ones before have shown.

The runner walks it by running them, and `titer validate` by reading what was written, so that a
plan on disk can be held against the one that its own trials call for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from titer.core.records import Trace, Trial
from titer.core.study import Subject
from titer.plan import experiment as plan
from titer.plan import further as checks
from titer.plan import interfaces
from titer.plan.experiment import Experiment
from titer.plan.fresh_seeds import finals
from titer.plan.rates import rungs, starts

__all__ = ["EXTENSIONS", "Stage", "stages"]

EXTENSIONS = 2
"""How often a sweep whose best rate is at its edge is extended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a study's plan holds by now (``planned``), and what of it is run next (``run``)."""

    label: str
    planned: tuple[Trial, ...]
    run: tuple[Trial, ...]


def stages(study: Experiment) -> Generator[Stage, Sequence[Trace], dict[str, float]]:
    """The stages of a study in order: calibration with looks through other interfaces, attacks and
    benign tasks, checks.

    The undefended model is attacked first, since others meet each row at the rate that works there
    (:mod:`titer.plan.rates`).

    Send back after each the traces of all that it planned, under their names. Returns the reference
    rate of each family.
    """
    calibration = (*interfaces.looks(study), *plan.calibration(study))
    traces = yield Stage(label="calibrating", planned=calibration, run=calibration)
    for _ in range(EXTENSIONS):
        further = tuple(plan.extension(study, traces))
        if not further:
            break
        calibration += further
        traces = yield Stage(label="calibrating further", planned=calibration, run=further)
    rates = plan.stars(traces)
    study = interfaces.settled(study, traces)
    first, others = _reference_first(study)
    rest = (
        *plan.attacks(study, rates, first),
        *plan.training(study, rates),
        *checks.diagnoses(study, rates),
    )
    traces = yield Stage(label="attacking", planned=(*calibration, *rest), run=rest)
    while more := tuple(rungs(study, traces, undefended=True)):
        rest = (*rest, *more)
        label = "finding rates that keep utility"
        traces = yield Stage(label=label, planned=(*calibration, *rest), run=more)
    if more := tuple(plan.attacks(study, rates, others, starts(study, traces))):
        rest = (*rest, *more)
        traces = yield Stage(label="attacking", planned=(*calibration, *rest), run=more)
    while more := tuple(rungs(study, traces, undefended=False)):
        rest = (*rest, *more)
        label = "finding rates for models that hold"
        traces = yield Stage(label=label, planned=(*calibration, *rest), run=more)
    if best := tuple(finals(study, traces)):
        rest = (*rest, *best)
        label = "attacking with the best settings"
        traces = yield Stage(label=label, planned=(*calibration, *rest), run=best)
    more = tuple(checks.further(study, rates, traces))
    if more:
        yield Stage(label="checking", planned=(*calibration, *rest, *more), run=more)
    return rates


def _reference_first(study: Experiment) -> tuple[list[Subject], list[Subject]]:
    reference = study.undefended()
    others = [subject for subject in study.measured() if subject is not reference]
    return [reference], others
