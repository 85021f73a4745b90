"""How to make each number again: the command, the settings, and the trials behind each attack."""

from __future__ import annotations

from dataclasses import dataclass

from titer.pillars.outcomes import RowResult
from titer.pillars.worst import BudgetPoint
from titer.report.glossary import OUTCOMES
from titer.report.models import in_order, outcome
from titer.report.numbers import DASH, interval, number, tidy, value
from titer.report.section import Section
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Attack", "Budget", "Detail", "Rows", "data"]

SECTION = Section(title="How to reproduce each number", after="checks", nav="Reproduce")

Pair = tuple[str, str]
"""A value and its interval, as shown."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack on one model, every number of it, and its trials."""

    row: str
    title: str
    outcome: str
    kind: str
    glyph: str
    seeds: str
    numbers: tuple[Pair, ...]
    remarks: str
    trials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """The worst harm at one budget."""

    spent: tuple[str, ...]
    flops: str
    harm: Pair
    free: Pair
    attack: str


@dataclass(frozen=True, slots=True)
class Detail:
    """Everything of one model."""

    model: ModelVerdict
    attacks: tuple[Attack, ...]
    profile: tuple[Budget, ...]
    search: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """The models, every one in detail, and trials that stand under no attack."""

    models: tuple[ModelVerdict, ...]
    details: tuple[Detail, ...]
    other: tuple[tuple[str, str], ...]


def data(verdict: Verdict) -> Rows:
    """Every attack and every budget of every model, with the trials behind each number."""
    models = tuple(in_order(verdict))
    return Rows(models, tuple(map(_detail, models)), _other(verdict))


def _detail(model: ModelVerdict) -> Detail:
    return Detail(
        model=model,
        attacks=tuple(_attack(attack) for attack in model.attacks.values()),
        profile=tuple(_budget(point) for point in model.resistance.curve),
        search=tuple(
            (number(one.k, "steps"), value(one), interval(one)) for one in model.resistance.search
        ),
    )


def _attack(attack: RowResult) -> Attack:
    found = outcome(attack)
    ests = (attack.harm, attack.harm_unconstrained, attack.utility)
    shapes = [(value(est), interval(est)) for est in ests]
    shapes.append((value(attack.tau, "steps"), interval(attack.tau, "steps")))
    notes = (est.note for est in (*ests, attack.tau))
    remarks = [attack.validity] if attack.standing != "valid" else []
    remarks += [*attack.flags, *(note for note in dict.fromkeys(notes) if note)]
    return Attack(
        row=attack.row,
        title=attack.title,
        outcome=found,
        kind=found.split()[0] if found else "none",
        glyph=OUTCOMES.get(found, (DASH, ""))[0],
        seeds="".join(OUTCOMES.get(seed, (DASH, ""))[0] for seed in attack.by_seed),
        numbers=tuple(shapes),
        remarks="; ".join(tidy(remark) for remark in remarks),
        trials=attack.trials,
    )


def _budget(point: BudgetPoint) -> Budget:
    free = point.harm_unconstrained
    return Budget(
        spent=tuple(number(n, "steps") for n in (point.steps, point.tokens, point.examples)),
        flops=f"{point.flops:.2g}".replace("e+", "e"),
        harm=(value(point.harm), interval(point.harm)),
        free=(value(free), interval(free)),
        attack=point.attack or DASH,
    )


def _other(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """Trials that stand under no attack (calibration, training), with their descriptions."""
    shown = {key for model in verdict for attack in model.attacks.values() for key in attack.trials}
    return tuple((key, text) for key, text in verdict.reproduce.trials.items() if key not in shown)
