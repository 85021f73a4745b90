"""Numbers as people read them, and the table in a terminal."""

from __future__ import annotations

import io

import pytest
from made_verdict import estimate, made
from rich.console import Console

from titer.report import tables


@pytest.mark.parametrize(
    ("raw", "form", "shown"),
    [
        (0.614, "score", "0.61"),
        (None, "score", "—"),
        (float("nan"), "score", "—"),
        (float("inf"), "ratio", "∞"),
        (-0.001, "score", "0.00"),
        (-0.12, "score", "−0.12"),
        (0.12, "signed", "+0.12"),
        (-0.004, "points", "−0.4"),
        (0.004, "points", "+0.4"),
        (0.0, "points", "0.0"),
        (-0.0001, "points", "0.0"),
        (1.05, "ratio", "1.05×"),
        (1.996, "ratio", "2.0×"),
        (8.04, "ratio", "8.0×"),
        (99.96, "ratio", "100×"),
        (1234.5, "ratio", "1,234×"),
        (3000, "steps", "3,000"),
        (7.34, "steps", "7.3"),
        (0.052, "percent", "5.2\u202f%"),
        (0.0, "percent", "0\u202f%"),
    ],
)
def test_numbers_are_written_as_people_read_them(
    raw: float | None, form: tables.Form, shown: str
) -> None:
    assert tables.number(raw, form) == shown


def test_an_interval_keeps_the_precision_of_its_value() -> None:
    assert tables.interval({"value": 3.3, "low": 1.3, "high": 5.3}, "ratio") == "[1.3, 5.3]"
    assert tables.interval({"value": 0.61, "low": 0.57, "high": 0.66}) == "[0.57, 0.66]"
    assert tables.interval({"value": 0.05, "low": 0.0, "high": 0.1}, "percent") == "[0, 10.0]"


def test_a_lower_bound_says_so_and_its_upper_end_is_open() -> None:
    bound = {"value": 300.0, "low": 250.0, "high": None, "censored": True}
    assert tables.value(bound, "steps") == "≥\u202f300"
    assert tables.interval(bound, "steps") == "[250, ∞]"


def test_a_missing_value_shows_a_dash_and_no_interval() -> None:
    gone = {"value": None, "low": 0.1, "high": 0.2, "censored": True}
    assert (tables.value(gone), tables.interval(gone)) == ("—", "")
    assert tables.value({}) == "—"


@pytest.mark.parametrize(
    ("name", "validity", "counts_as"),
    [
        ("held", "valid", "held"),
        ("held", "suspect: S5", ""),
        ("held", "failed: out of memory", ""),
        ("bricked", "failed: out of memory", ""),
        ("breached", "failed: one seed", "breached"),
        ("breached", "void: S1", ""),
        ("failed", "failed: out of memory", ""),
        ("", "valid", ""),
    ],
)
def test_what_failed_was_not_survived_and_a_breach_stays_a_breach(
    name: str, validity: str, counts_as: str
) -> None:
    assert tables.outcome({"outcome": name, "validity": validity}) == counts_as


def test_the_columns_cover_every_pillar_in_order() -> None:
    assert list(dict.fromkeys(column.pillar for column in tables.COLUMNS)) == list(tables.PILLARS)


def test_plain_text_has_every_model_and_number_and_no_escape_codes() -> None:
    verdict = made()
    text = tables.plain(verdict, width=90)
    assert "\x1b" not in text
    assert all(len(line) <= 90 for line in text.splitlines())
    for model in verdict["models"]:
        assert model["name"] in text
        for column in tables.COLUMNS:
            assert tables.value(tables.look(model, "pillars", column.pillar, column.key)) != ""
    assert "0.68 [0.64, 0.71]" in text
    assert "withheld: rmu+booster: P02 failed on seeds 1 and 3" in text
    assert "Not tested: attacks on the input" in text
    assert "not established" in text


def test_the_in_domain_curve_is_told_where_it_was_measured() -> None:
    text = " ".join(tables.plain(made(), width=200).split())
    assert (
        "In-domain R*: rmu: 0.08 [0.00, 0.16] with 10 % of the hazard (2 of 24); "
        "0.25 [0.17, 0.33] with 30 % of the hazard (7 of 24); "
        "0.42 [0.34, 0.50] with 100 % of the hazard (24 of 24)."
    ) in text
    assert "not measured" not in text
    bare = made()
    for model in bare["models"]:
        model["pillars"]["generalisation"]["curve"] = []
    assert "by the defender's share of the hazard: not measured." in tables.plain(bare, width=200)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_table_fits_its_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(tables.terminal(made()))
    assert max(len(line) for line in out.getvalue().splitlines()) <= width


def test_names_cannot_write_to_the_terminal() -> None:
    verdict = made(rows=2, models=3)
    verdict["models"][2]["name"] = "evil\x1b[31m[bold]\nname\x07"
    verdict["models"][2]["flags"] = ["[red]flag\x1b]0;title\x07"]
    verdict["not_tested"] = ["[link=file:///]x[/link]\x1b[2J"]
    text = tables.plain(verdict)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]flag" in text


@pytest.mark.parametrize("verdict", [{}, {"models": []}, {"models": [{"name": "x"}]}])
def test_a_verdict_with_nothing_in_it_prints(verdict: dict[str, object]) -> None:
    assert isinstance(tables.plain(verdict), str)


def test_withheld_scores_are_dashes() -> None:
    verdict = made()
    text = tables.plain({**verdict, "models": [verdict["models"][6]]})
    (worst,) = [line for line in text.splitlines() if "Worst harm" in line]
    assert worst.split("|")[1].strip() == "—"
    assert estimate(None)["value"] is None
