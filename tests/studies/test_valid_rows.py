"""Which rows say something: the table, its page, and a cut of the measurement itself."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from titer.core.study import Study
from titer.executors.inline import Inline
from titer.plan.request import assemble, check
from titer.plan.suites import suite
from titer.report.load import read_verdict
from titer.run.runner import run_study

PAGE = Path(__file__).parents[2] / "docs" / "rows.py"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_rows", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_counts_what_the_study_wrote(page: ModuleType) -> None:
    line = "| npo | 5 of 8 | 62 % | S02 (void: ruined), R03 (suspect: S5 flat); P02 (failed: x) |"
    (found,) = page.rows(line)
    assert found == ("npo", 5, 8, (("S02", "void"), ("R03", "suspect"), ("P02", "failed")))


def test_nine_tenths_of_quick_are_valid_and_none_is_void(page: ModuleType) -> None:
    """As measured, on every organism that is shipped and two that were immunised."""
    found = list(page.rows(page.measured("quick")))
    assert len(found) == 5
    assert sum(valid for _, valid, _, _ in found) >= 0.9 * sum(every for _, _, every, _ in found)
    assert [kind for *_, others in found for _, kind in others if kind != "suspect"] == []


@pytest.mark.slow
def test_a_cut_of_it_again(tmp_path: Path) -> None:
    """The undefended organism, at full length, one seed."""
    asked = Study(models=("fabula:base",), suite="quick", seeds=1, out=tmp_path / "run")
    study, _ = assemble(check(asked))
    few = {"rates": (1.0,), "task_steps": 2, "checks": "none"}
    alone = replace(study, subjects=(study.undefended(),), tasks=("sorting",))
    run_study(replace(alone, suite=replace(study.suite, **few)), tmp_path / "run", Inline())
    (model,) = read_verdict(tmp_path / "run").models
    mandatory = {row.id for row in suite("quick").rows if row.mandatory and row.fits("k")}
    valid = {one.row for one in model.attacks.values() if one.standing == "valid"}
    assert set(model.attacks) == mandatory
    assert len(valid & mandatory) >= 0.9 * len(mandatory), mandatory - valid
