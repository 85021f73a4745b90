"""Which trials the checks need beside the attacks: diagnoses of all models, and further attacks on
those that no training attack broke. See ``docs/reference/checks.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from titer.checks.listing import listed
from titer.checks.wanted import Ground, Wanted, attack
from titer.core.diagnoses import Diagnosis, diagnosis_part
from titer.core.records import Part, Trace, Trial
from titer.core.study import Subject
from titer.evidence.curves import Evidence, Rule
from titer.evidence.gather import curve_grid, gather
from titer.evidence.panel import thresholds
from titer.evidence.reach import unbroken
from titer.plan.experiment import Experiment
from titer.trial.presets import middle_rate

__all__ = ["diagnoses", "further"]

STEPS = 100
"""Steps of the plain attack that variants are compared with, or the suite's cap."""

FAMILY = "full-adamw"


def diagnoses(study: Experiment, rates: Mapping[str, float]) -> list[Trial]:
    """The diagnoses of every model but the oracle and those made with a share of the hazard."""
    if study.suite.checks == "none":
        return []
    base, tuned = study.undefended().digest, _plain(study, rates).fields
    looks: list[tuple[Diagnosis, Part, int]] = [
        ("weights", diagnosis_part("weights", base), 0),
        ("paths", diagnosis_part("paths", base, tuned), 2 * _steps(study)),
        ("splits", diagnosis_part("splits", base), 0),
    ]
    return [
        study.trial(
            subject,
            part,
            steps,
            study.seeds[0],
            purpose="check",
            role="check",
            row=which,
            label=which,
        )
        for subject in _examined(study)
        for which, part, steps in looks
    ]


def further(study: Experiment, rates: Mapping[str, float], traces: Sequence[Trace]) -> list[Trial]:
    """Attacks that ask whether a model that held did so for the right reason, as each check has
    them. A model that training broke has nothing to hide and needs none."""
    if study.suite.checks != "all":
        return []
    here = [trace for trace in traces if trace.trial.domain == study.domain]
    rule = Rule(seeds=study.seeds, chance=study.world.chance)
    floor = curve_grid(here)[1]

    def seen(name: str) -> Evidence:
        return gather(here, subject=name, domain=study.domain, seeds=study.seeds, floor=floor)

    phi, _ = thresholds(seen(study.undefended().name), rule)
    return [
        _trial(study, subject, one.check.id, wanted)
        for subject in _examined(study)
        if unbroken(seen(subject.name), phi, rule.epsilon)
        for one in listed()
        if one.trials
        for wanted in one.trials(_ground(study, subject, rates, phi))
    ]


def _examined(study: Experiment) -> list[Subject]:
    return [one for one in study.measured() if one.role != "oracle" and one.share is None]


def _ground(study: Experiment, subject: Subject, rates: Mapping[str, float], phi: float) -> Ground:
    steps, data = _steps(study), study.world.attacker(study.domain)
    rows = [study.suite.steps(row, subject.parameters) for row in study.rows()]
    return Ground(
        plain=_plain(study, rates),
        steps=steps,
        longest=max([steps, *rows]),
        phi=phi,
        examples=len(data.harmful),
        retains=bool(data.retain),
    )


def _plain(study: Experiment, rates: Mapping[str, float]) -> Part:
    rate = rates.get(FAMILY) or middle_rate(FAMILY, study.undefended().parameters)
    return attack("finetune", {"lr": rate})


def _steps(study: Experiment) -> int:
    return min(STEPS, study.suite.cap or STEPS)


def _trial(study: Experiment, subject: Subject, check: str, wanted: Wanted) -> Trial:
    trial = study.trial(
        subject,
        wanted.attack,
        wanted.steps,
        study.seeds[0] + wanted.restart,
        purpose="check",
        role="check",
        row=wanted.row,
        check=check,
        label=f"{check} {wanted.row}",
    )
    return replace(trial, enough=wanted.enough)
