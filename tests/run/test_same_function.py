"""A model written in other weights that compute the same gets the same verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import titer
from titer.attacks.reparametrise import Reparametrise
from titer.conformance import tiny_data
from titer.core.lm import LM
from titer.core.records import Budget
from titer.core.study import Study
from titer.executors.inline import Inline
from titer.method import Run
from titer.nn.reparametrise import norms, rescale
from titer.plan.request import assemble, check
from titer.plan.suite import Adversary
from titer.report.load import read_verdict
from titer.run.runner import run_study


def _shrunk(lm: LM) -> LM:
    """What reads a norm is a seventh as large, and the norm's gain seven times as large."""
    out = lm.clone()
    for norm, reading in norms(out):
        rescale(norm, reading, torch.full_like(norm.weight.detach(), 7.0).double())
    return out


def _rewritten(lm: LM) -> LM:
    return Reparametrise().rewritten(lm, Run(budget=Budget(steps=1), data=tiny_data(), seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("same", [_shrunk, _rewritten])
def test_other_weights_of_the_same_function_have_the_same_verdict(
    same: Callable[[LM], LM], once: Callable[..., Path], tmp_path: Path
) -> None:
    """At the rates of the undefended model a shrunk one is ruined before it gives way."""

    def immunised(folder: Path) -> None:
        safe = titer.immunise("fabula:base", "npo", titer.world("fabula")["A"])
        safe.save(folder)

    plain = once("npo of a hundred steps", immunised)
    same(LM.load(str(plain))).save(tmp_path / "other")
    request = Study(
        models=[str(plain), str(tmp_path / "other")],
        undefended="fabula:base",
        suite="quick",
        out=tmp_path / "run",
        seeds=1,
        cap=30,
    )
    study, _ = assemble(check(request))
    rows = (Adversary(id="M01"), Adversary(id="S03"))
    few = {"rates": (1.0,), "task_steps": 2, "checks": "none"}
    run_study(
        replace(study, tasks=("sorting",), suite=replace(study.suite, rows=rows, **few)),
        tmp_path / "run",
        Inline(),
    )
    one, other = [
        model for model in read_verdict(tmp_path / "run").models if model.role == "defended"
    ]
    assert one.word == other.word == "breached"
    found = [model.resistance.weak.value for model in (one, other)]
    assert found[1] == pytest.approx(found[0], abs=0.15)
