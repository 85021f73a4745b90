"""A small suite of locks, run whole on organisms: it breaks its controls, by its own rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from titer.core import catalogue
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget, Trace
from titer.core.study import Manifest, Role, Subject
from titer.executors.inline import Inline
from titer.plan.experiment import Experiment
from titer.plan.subjects import open_subject
from titer.plan.suite import Adversary
from titer.plan.suites import SUITES
from titer.report.load import read
from titer.run.runner import run_study
from titer.verdict.judge import judge
from titer.worlds.fabula import fabula
from titer.worlds.organisms import organism

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("controls")]

WORLD = fabula(0)
SMALL = replace(
    SUITES["locks"],
    rows=(
        *(
            Adversary(id=name, multiples=(1.0, 10.0))
            for name in ("S07", "L01", "L12", "L02", "L13")
        ),
        Adversary(id="L08"),
    ),
    rates=(),
    items=16,
    checks="none",
).around("fabula:base")
"""What undoes a lock beside the quickest plain training, ten steps of each. A model that never knew
the hazard has no part in the rule, and is left out."""


def _made(root: Path, text: str, lm: LM) -> Subject:
    """The last stage of a chain on a model that all before it are done to."""
    run = Run(budget=Budget(steps=0), data=WORLD.defender("A"), seed=0)
    catalogue.build("defence", text.split("+")[-1])(lm, run).save(root / text)
    role: Role = "control" if text in SMALL.controls else "defended"
    return replace(open_subject(str(root / text), role, name=text), defence=text)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Sequence[Trace]]:
    root = tmp_path_factory.mktemp("locks")
    base = LM.load(organism("base"))
    preset = catalogue.card("defence", "npo").presets["npo-testbed"]
    run = Run(budget=Budget(steps=preset.steps[0]), data=WORLD.defender("A"), seed=0)
    unlearned = catalogue.build("defence", "npo", dict(preset.fields))(base, run)
    study = Experiment(
        suite=replace(SMALL, cap=10),
        world=WORLD,
        source="fabula",
        subjects=(
            open_subject("fabula:base", "undefended", name="undefended"),
            *(_made(root, text, unlearned if "+" in text else base) for text in SMALL.beside),
        ),
        seeds=(0,),
        domain="A",
    )
    run_study(study, root / "run", Inline())
    return read(root / "run")


def _controls(facts: Manifest, traces: Sequence[Trace]) -> dict[str, dict[str, Any]]:
    found = judge(facts, traces, draws=20).to_json()["battery"]
    assert found["valid"] == all(one["broken"] for one in found["controls"])
    return {one["name"]: one for one in found["controls"]}


def test_every_control_is_broken_by_the_rule(ran: tuple[Manifest, Sequence[Trace]]) -> None:
    found = _controls(*ran)
    assert set(found) == set(SMALL.controls)
    for name, one in found.items():
        assert one["broken"], f"{name}: {one['why']}"
        assert one["rho"] < 1.1


def test_without_the_sweep_the_rule_would_compare_rates_and_not_locks(
    ran: tuple[Manifest, Sequence[Trace]],
) -> None:
    """The locks are the same and undone as before; the rate and the optimiser that bring the
    unlocked model back soonest are missing from what undoes them, and alone make the difference:
    on this organism 1.0 becomes 1.82, on that of seed 1 1.23, and on that of seed 2 it stays."""
    facts, traces = ran
    slow = min(one.trial.attack.fields["lr"] for one in traces if one.trial.label == "L01")

    def kept(trace: Trace) -> bool:
        label, fields = trace.trial.label, trace.trial.attack.fields
        return label not in ("L01", "L02", "L12", "L13") or (
            label in ("L01", "L02") and fields["lr"] == slow
        )

    rows = tuple(row for row in facts.rows if row.id not in ("L12", "L13"))
    found = _controls(replace(facts, rows=rows), [one for one in traces if kept(one)])
    for name in ("npo+spectral_brake", "npo+backward_lock"):
        assert found[name]["rho"] > 1.1
