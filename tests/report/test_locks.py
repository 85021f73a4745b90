"""A suite of locks counts only where it broke every control, and says what a lock adds."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from sample_verdict import judged as verdict
from sample_verdict import sample

from titer.core.study import Locks
from titer.report import html
from titer.report.sections import locks as section
from titer.report.tables import plain
from titer.verdict.battery import battery
from titer.verdict.parts import Verdict

UNLOCKED = {"npo": "rmu", "rmu": "undefended", "collapse": "undefended"}


@lru_cache(maxsize=8)
def _verdict(*controls: str) -> dict[str, Any]:
    """The sample, in which npo comes back soon, rmu late and collapse never."""
    facts, traces = sample()
    subjects = tuple(
        replace(one, role="control" if one.name in controls else "defended")
        if one.name in UNLOCKED
        else one
        for one in facts.subjects
    )
    rows = tuple(row for row in facts.rows if row.id != "P02")  # one of its trials failed
    locks = Locks(controls=controls, unlocked=UNLOCKED)
    facts = replace(facts, subjects=subjects, rows=rows, locks=locks)
    return verdict(facts, [one for one in traces if one.trial.label != "P02"], draws=20)


def _section(content: dict[str, Any]) -> section.Rows:
    rows = section.data(Verdict.from_json(content))
    assert rows is not None
    return rows


def _model(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in content["models"] if entry["name"] == name)


def test_a_broken_control_makes_the_suite_count() -> None:
    content = _verdict("npo")
    assert content["battery"]["valid"] is True
    (control,) = content["battery"]["controls"]
    assert control["broken"] is True
    assert control["rho"] <= 1
    assert control["by"] in {"S03", "M01", "H03", "M05"}
    assert _model(content, "rmu")["withheld"] is None
    assert "Control: npo: broken by" in plain(Verdict.from_json(content))
    assert "SUITE INVALID" not in plain(Verdict.from_json(content))


@pytest.mark.parametrize(
    ("control", "why"),
    [
        ("collapse", "no attack brought the harm back"),
        ("rmu", "times the steps"),
        ("gain_lock", "was not attacked"),
    ],
)
def test_a_control_that_holds_voids_every_score(control: str, why: str) -> None:
    content = _verdict("npo", control)
    assert content["battery"]["valid"] is False
    assert why in content["battery"]["why"]
    assert f"SUITE INVALID: {control}" in plain(Verdict.from_json(content))
    for entry in content["models"]:
        if entry["role"] == "defended":
            assert entry["withheld"].startswith("the suite is invalid")
            assert entry["pillars"]["resistance"]["passes"] is not True
            assert entry["pillars"]["resistance"]["r_star"]["value"] is None
            assert "is withheld" in entry["claim"]
            assert "Effort in steps" not in entry["claim"]


def test_effort_is_told_in_the_claim_and_against_what() -> None:
    content = _verdict("npo")
    entry = _model(content, "rmu")
    found = entry["effort"]
    assert found["against"] == "undefended"
    rho = found["unlocked"]["decides"]["value"]
    assert rho > 1
    assert f"(quickest: {found['attack']}): {rho:.1f}× [" in entry["claim"]
    assert "against undefended" in entry["claim"]
    assert found["by_attack"][found["attack"]]["value"] == pytest.approx(rho)
    assert min(one["value"] for one in found["by_attack"].values()) == pytest.approx(rho)
    assert _model(content, "undefended")["effort"] == {}


def test_other_suites_have_neither() -> None:
    facts, traces = sample()
    content = verdict(facts, traces, draws=20)
    assert content["battery"] == {}
    assert all(entry["effort"] == {} for entry in content["models"])


def test_the_page_says_which_controls_were_broken_and_what_each_lock_adds() -> None:
    content = _verdict("npo")
    page = html.render(Verdict.from_json(content))
    assert 'id="locks"' in page
    assert "This one did." in page
    rows = _section(content)
    (said,) = rows.said
    (control,) = content["battery"]["controls"]
    title = next(row["title"] for row in content["suite"]["rows"] if row["id"] == control["by"])
    assert said.startswith("npo was broken. The quickest attack on it")
    assert f"({control['by']}, {title}) takes" in said
    assert said.endswith("the steps of the quickest on rmu.")
    assert "rmu is what they are without the lock" in page
    told = {model.name: cells for model, cells in rows.grid.rows}
    assert set(told) == set(UNLOCKED)
    rho = _model(content, "rmu")["effort"]["unlocked"]["decides"]["value"]
    assert told["rmu"][2].raw == pytest.approx(rho)
    assert told["rmu"][2].extra == "against undefended"
    assert told["collapse"][0].value == "none got there"
    assert told["collapse"][2].value.startswith("≥")


def test_the_page_of_an_invalid_suite_says_so_and_gives_no_effort() -> None:
    content = _verdict("npo", "collapse")
    page = html.render(Verdict.from_json(content))
    assert "the suite is invalid, and no score counts" in page
    assert "collapse was not broken" in page
    grid = _section(content).grid
    told = {model.name: cells for model, cells in grid.rows}
    assert [cell.value for cell in told["rmu"]] == ["—"] * 4
    notes = {mark: note for note, mark in grid.notes.found.items()}
    assert all("the suite is invalid" in notes[cell.mark] for cell in told["rmu"])
    assert told["npo"][2].raw is not None


def test_a_control_that_one_attack_broke_has_its_effort_in_the_table() -> None:
    """What else failed on it withholds its score, and not what broke it."""
    content = _verdict("npo")
    models = [
        {**one, "withheld": "M05 seed 0 diverged"} if one["name"] == "npo" else one
        for one in content["models"]
    ]
    rows = _section({**content, "models": models}).grid.rows
    (cells,) = [cells for model, cells in rows if model.name == "npo"]
    assert cells[2].raw == pytest.approx(content["battery"]["controls"][0]["rho"])


def test_a_control_that_took_too_long_is_told_with_the_limit() -> None:
    said = _section(_verdict("rmu")).said
    assert "rmu was not broken. The quickest attack on it" in said[0]
    assert said[0].endswith("More than 2.0× is too much.")


def test_a_suite_without_locks_has_no_such_section() -> None:
    assert 'id="locks"' not in html.render(Verdict.from_json(_verdict()))


def test_a_fault_names_its_control_once() -> None:
    content = _verdict("npo", "gain_lock")
    assert content["battery"]["why"].count("gain_lock") == 1


def test_a_control_that_one_attack_broke_is_broken_whatever_became_of_another() -> None:
    content = _verdict("npo")
    held = [replace(one, withheld="M05 seed 0 diverged") for one in Verdict.from_json(content)]
    facts = replace(sample()[0], locks=Locks(controls=("npo",)))
    found = battery(facts, held)
    assert found is not None
    assert found.valid
    none = battery(facts, [replace(one, attacks={}) for one in held])
    assert none is not None
    assert "M05 seed 0 diverged" in none.why
