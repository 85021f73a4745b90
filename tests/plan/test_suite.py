"""Suites are versioned values."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from titer.core import catalogue
from titer.core.errors import BadInput, UnknownName
from titer.core.records import Preset, content_key
from titer.core.study import Study
from titer.plan import suite as home
from titer.plan.experiment import _tried
from titer.plan.request import check
from titer.plan.suite import Adversary
from titer.plan.suites import SUITES, suite


def test_the_hash_follows_everything_that_decides_a_number() -> None:
    quick = suite("quick")
    assert quick.digest() == suite("quick").digest()
    others = {
        replace(quick, cap=20).digest(),
        replace(quick, rows=quick.rows[:-1]).digest(),
        replace(quick, rows=(*quick.rows[:-1], Adversary(id="M05"))).digest(),
        replace(quick, task_steps=7).digest(),
        replace(quick, search="fresh").digest(),
        replace(quick, rows=(*quick.rows[:-1], replace(quick.rows[-1], of="I04"))).digest(),
        replace(quick, rows=(replace(quick.rows[0], settings=({"lr": 1.0},)),)).digest(),
        replace(quick, rows=(replace(quick.rows[0], budget=(7, 7)),)).digest(),
        suite("core").digest(),
    }
    assert len(others) == 9
    assert quick.digest() not in others


def _decides(preset: Preset) -> dict[str, Any]:
    """A preset but for its family, which is a heading, and for what only defences have."""
    content = asdict(preset)
    del content["family"], content["found"]
    return content


def test_what_is_no_setting_any_more_stays_in_the_hash_and_in_configs() -> None:
    """Else results of then and now would be of two suites, though nothing differs."""
    for one in SUITES.values():
        assert one.settings()["worst_case"] is False
        presets = {row.id: row.preset() for row in one.rows}
        versions = {row: catalogue.card("attack", presets[row][0]).version for row in presets}
        content = {
            **asdict(one),
            "worst_case": False,
            "code": home.__version__,
            "presets": {
                row: [method, versions[row], _decides(preset)]
                for row, (method, preset) in presets.items()
            },
        }
        assert one.digest() == content_key(content)


def test_an_unknown_way_to_search_is_refused(tmp_path: Path) -> None:
    request = Study(models=["fabula:base"], out=tmp_path / "run", search="halving")
    with pytest.raises(BadInput, match="--search halving: there are full and fresh"):
        check(request)
    assert "--search fresh" in replace(request, search="fresh").command()


def test_the_hash_follows_the_code_and_each_method(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = suite("quick")
    found = {quick.digest()}
    with monkeypatch.context() as patch:
        patch.setattr(home, "__version__", "another")
        found.add(quick.digest())
    real = catalogue.card
    monkeypatch.setattr(catalogue, "card", lambda kind, name: replace(real(kind, name), version=99))
    found.add(quick.digest())
    assert len(found) == 3


def test_rows_have_a_budget_for_each_size_and_a_cap_bounds_it() -> None:
    row = Adversary(id="S05")
    assert SUITES["core"].steps(row, 1_000_000) == 300
    assert SUITES["core"].steps(row, 8_000_000_000) == 2500
    assert replace(SUITES["core"], cap=20).steps(row, 1_000_000) == 20


def test_core_holds_the_table_as_far_as_the_methods_reach() -> None:
    listed = [row.id for row in SUITES["core"].rows]
    assert len(listed) == len(set(listed))
    known = set(catalogue.presets("attack"))
    # Demonstrations supply what they ask for and stand apart; rows L are bypasses of locks.
    assert {row for row in known - set(listed) if row[0] != "L"} == {"I04"}
    assert [row.id for row in SUITES["supply"].rows] == ["I04"]


def test_the_table_has_its_sixty_rows() -> None:
    """All of the table but I04, and GCG as a row of its own beside learnt embeddings. The edits
    that a network writes come on top."""
    rows = [row for row in SUITES["core"].rows if not row.id.startswith("N")]
    assert len(rows) == 60
    assert sum(row.fits("k") for row in rows) == 51
    assert sum(row.fits("r") for row in rows) == 57


@pytest.mark.parametrize("name", SUITES)
def test_every_setting_of_every_row_is_a_method(name: str) -> None:
    ids = [row.id for row in SUITES[name].rows]
    assert len(ids) == len(set(ids))
    for row in SUITES[name].rows:
        tried = _tried(row, {})
        assert len(tried) == len(row.settings) * len(row.multiples)
        for attack, setting in zip(tried[:: len(row.multiples)], row.settings, strict=True):
            for field, value in setting.items():
                assert attack.fields[field] == value


def test_published_adversaries_are_scaled_by_what_was_calibrated() -> None:
    """1e-5 to 4e-5 at the paper's scale are half to twice lr*."""
    rates = {"full-adamw": 1e-3}
    rows = [row for row in SUITES["tar"].rows if row.id.startswith("TAR-R")]
    found = [_tried(row, rates)[0].fields for row in rows]
    assert [fields["lr"] for fields in found] == [5e-4, 5e-4, 5e-4, 1e-3, 2e-3]
    assert [fields["batch_size"] for fields in found] == [32, 32, 16, 32, 32]
    assert round(found[0]["warmup"] * SUITES["tar"].steps(rows[0], 10**6)) == 10
    assert [SUITES["tar"].steps(row, 8 * 10**9) for row in rows] == [170, 170, 340, 170, 170]


def test_quick_is_eight_adversaries_for_either_kind_of_hazard() -> None:
    for kind, own in (("k", "M05"), ("r", "I01")):
        rows = [row.id for row in SUITES["quick"].rows if row.fits(kind)]
        assert rows == ["S03", "P02", "M01", "V01", "R03", "W04", "H03", own]


def test_an_unknown_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        suite("quik")
