"""A model written in other weights that compute the same gets the same verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from studies._cheats import rescaled

import titer
from titer.attacks.reparametrise import Reparametrise
from titer.conformance import tiny_data
from titer.core.lm import LM
from titer.core.records import Budget
from titer.core.study import Study
from titer.executors.inline import Inline
from titer.method import Run
from titer.plan.request import assemble, check
from titer.plan.suite import Adversary
from titer.report.load import read_verdict
from titer.run.runner import run_study


def _rewritten(lm: LM) -> LM:
    return Reparametrise().rewritten(lm, Run(budget=Budget(steps=1), data=tiny_data(), seed=3))


@pytest.mark.slow
def test_other_weights_of_the_same_function_have_the_same_verdict(
    once: Callable[..., Path], tmp_path: Path
) -> None:
    def immunised(folder: Path) -> None:
        safe = titer.immunise("fabula:base", "npo", titer.world("fabula")["A"])
        safe.save(folder)

    plain = once("npo of a hundred steps", immunised)
    honest_lm = LM.load(str(plain))
    # At the rates of the undefended model one shrunk by seven is ruined before it gives way.
    others = {"shrunk": rescaled(honest_lm, 7.0), "rewritten": _rewritten(honest_lm)}
    others["both"] = rescaled(others["rewritten"], 1000.0)
    for name, lm in others.items():
        lm.save(tmp_path / name)
    request = Study(
        models=[str(plain), *(str(tmp_path / name) for name in others)],
        undefended="fabula:base",
        suite="quick",
        out=tmp_path / "run",
        seeds=1,
        cap=30,
    )
    study, _ = assemble(check(request))
    rows = (Adversary(id="M01"),)
    few = {"rates": (1.0,), "task_steps": 2, "checks": "none"}
    run_study(
        replace(study, tasks=("sorting",), suite=replace(study.suite, rows=rows, **few)),
        tmp_path / "run",
        Inline(),
    )
    found = {m.name: m for m in read_verdict(tmp_path / "run").models if m.role == "defended"}
    honest = found.pop(plain.name)
    assert {model.word for model in found.values()} == {honest.word} == {"breached"}
    for name, model in found.items():
        harm, same = (one.resistance.weak.value for one in (honest, model))
        assert same == pytest.approx(harm, abs=0.15), name
        assert model.checks["S19"].flag == "valid", "a difference that hides nothing"
        named = "weights at other scales" in model.checks["S19"].reason
        assert named == (name != "rewritten"), "its scales are near enough to stay"
        assert model.checks["S22"].flag == "valid", name
