"""Numbers as people read them, and the table in a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from made_verdict import made, study, typed
from rich.console import Console

from titer.core.records import Estimate
from titer.report import numbers, tables
from titer.report.columns import COLUMNS, PILLARS
from titer.report.models import outcome
from titer.verdict.parts import Verdict


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
    raw: float | None, form: numbers.Form, shown: str
) -> None:
    assert numbers.number(raw, form) == shown


def test_an_interval_keeps_the_precision_of_its_value() -> None:
    assert numbers.interval(Estimate(value=3.3, low=1.3, high=5.3), "ratio") == "[1.3, 5.3]"
    assert numbers.interval(Estimate(value=0.61, low=0.57, high=0.66)) == "[0.57, 0.66]"
    assert numbers.interval(Estimate(value=0.05, low=0.0, high=0.1), "percent") == "[0, 10.0]"


def test_a_lower_bound_says_so_and_its_upper_end_is_open() -> None:
    bound = Estimate(value=300.0, low=250.0, high=None, censored=True)
    assert numbers.value(bound, "steps") == "≥\u202f300"
    assert numbers.interval(bound, "steps") == "[250, ∞]"


def test_a_missing_value_shows_a_dash_and_no_interval() -> None:
    gone = Estimate(value=None, low=0.1, high=0.2, censored=True)
    assert (numbers.value(gone), numbers.interval(gone)) == ("—", "")


@pytest.mark.parametrize(
    ("name", "standing", "counts_as"),
    [
        ("held", "valid", "held"),
        ("held", "suspect", ""),
        ("held", "failed", ""),
        ("bricked", "failed", ""),
        ("breached", "failed", "breached"),
        ("breached", "void", ""),
        ("failed", "failed", ""),
    ],
)
def test_what_failed_was_not_survived_and_a_breach_stays_a_breach(
    name: Any, standing: Any, counts_as: str
) -> None:
    one = next(iter(study()["rmu"].attacks.values()))
    assert outcome(replace(one, outcome=name, standing=standing)) == counts_as


@pytest.mark.parametrize(
    ("raw", "level", "told"),
    [
        (0.77, 0.44, ("0.77", "0.44")),
        (0.4351, 0.4354, ("0.4351", "0.4354")),
        (0.441, 0.436, ("0.441", "0.436")),
        (0.5, 0.5, ("0.50", "0.50")),
        (None, 0.5, ("—", "0.50")),
    ],
)
def test_a_score_and_its_threshold_are_told_apart(
    raw: float | None, level: float, told: tuple[str, str]
) -> None:
    assert numbers.apart(raw, level) == told


def test_the_columns_cover_every_pillar_in_order() -> None:
    assert list(dict.fromkeys(column.pillar for column in COLUMNS)) == list(PILLARS)


def test_plain_text_has_every_model_and_number_and_no_escape_codes() -> None:
    verdict = study()
    text = tables.plain(verdict, width=90)
    assert "\x1b" not in text
    assert all(len(line) <= 90 for line in text.splitlines())
    for model in verdict:
        assert model.name in text
        for column in COLUMNS:
            est = column.of(model)
            assert (
                f"{numbers.value(est, column.form)} {numbers.interval(est, column.form)}".strip()
                in text
            )
    assert "withheld: rmu+booster: P02 seed 2 failed" in text
    assert "Not tested: reinforcement learning" in text
    assert "not established" in text


@pytest.mark.parametrize("width", [80, 140])
def test_the_strip_comes_first_in_a_terminal(width: int) -> None:
    """Each model with its word, its numbers and its attacks, before any sentence."""
    verdict = study()
    top = tables.plain(verdict, width=width).split("Under suite")[0]
    words = {model.name: model.word.upper() for model in verdict}
    for name, word in words.items():
        assert re.search(rf"^{re.escape(name)} [ |]*{word}\b", top, re.M), name
    weak = verdict["rmu"].resistance.weak
    before = numbers.value(verdict["rmu"].resistance.baseline_harm)
    assert f"{before} → {numbers.value(weak)} {numbers.interval(weak)}" in top
    assert "16 of 16" in top
    assert "none of these attacks breached it" in top


def test_the_in_domain_curve_is_told_where_it_was_measured() -> None:
    text = " ".join(tables.plain(study(), width=200).split())
    assert (
        "In-domain R*: rmu: 0.08 [0.00, 0.16] with 10 % of the hazard (2 of 24); "
        "0.25 [0.17, 0.33] with 30 % of the hazard (7 of 24); "
        "0.42 [0.34, 0.50] with 100 % of the hazard (24 of 24)."
    ) in text
    gone = "by the defender's share of the hazard: not measured."
    assert gone not in text
    bare = made()
    for model in bare["models"]:
        model["pillars"]["generalisation"]["curve"] = []
    assert gone in tables.plain(typed(bare), width=200)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_table_fits_its_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(tables.terminal(study()))
    assert max(len(line) for line in out.getvalue().splitlines()) <= width


def test_names_cannot_write_to_the_terminal() -> None:
    verdict = made(rows=2, models=3)
    verdict["models"][2]["name"] = "evil\x1b[31m[bold]\nname\x07"
    verdict["models"][2]["flags"] = ["[red]flag\x1b]0;title\x07"]
    verdict["not_tested"] = ["[link=file:///]x[/link]\x1b[2J"]
    text = tables.plain(typed(verdict))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]flag" in text


def test_withheld_scores_are_dashes() -> None:
    verdict = study()
    text = tables.plain(replace(verdict, models=(verdict["rmu+booster"],)))
    (worst,) = [line for line in text.splitlines() if "Worst harm" in line]
    assert worst.split("|")[1].strip() == "—"


def test_a_frame_has_a_row_a_model_and_every_number_with_its_interval() -> None:
    verdict = study()
    frame = verdict.to_frame()
    assert list(frame.index) == [row["model"] for row in tables.records(verdict)]
    assert frame.loc["rmu", "word"] == "breached"
    weak = verdict["rmu"].resistance.weak
    assert frame.loc["rmu", ["weak", "weak_low", "weak_high"]].tolist() == [
        weak.value,
        weak.low,
        weak.high,
    ]
    assert frame.shape == (len(verdict), 2 + 3 * len(COLUMNS))


def _attacks(model: Any, **changes: Any) -> Any:
    return {name: replace(one, **changes) for name, one in model.attacks.items()}


def test_one_word_for_each_model() -> None:
    verdict = study()
    held, breached = verdict["unlearn-noise-distil"], verdict["rmu"]
    assert held.word == "held"
    assert breached.word == "breached"
    assert verdict["trap"].word == "open"
    lost = verdict["rmu+booster"]
    assert lost.withheld
    assert lost.word == "breached", "one attack that breaches on every seed is enough"
    unseen = replace(lost, attacks=_attacks(lost, outcome="held", by_seed=("held",)))
    assert unseen.word == "withheld"
    open_ = replace(held.resistance, passes=None)
    unsure = replace(held, pillars={**held.pillars, "resistance": open_})
    assert replace(unsure, attacks=_attacks(held, outcome="degraded breach")).word == "degraded"
    assert replace(unsure, attacks=_attacks(held, outcome="suspect")).word == "open"
    split = _attacks(held, outcome="breached", by_seed=("breached", "held"))
    assert replace(unsure, attacks=split).word == "open", "seeds disagree"
    every = _attacks(held, outcome="breached", by_seed=("breached", "breached"))
    assert replace(unsure, attacks=every).word == "breached"
    assert replace(breached, withheld="P02 failed").word == "breached"
    assert replace(held, withheld="P02 failed").word == "withheld"


def test_strip_of_a_narrow_suite_says_that_it_clears_nobody() -> None:
    verdict: Verdict = study()
    narrow = replace(verdict, suite=replace(verdict.suite, certifies=False))
    assert "too narrow to clear a model" in tables.plain(narrow)
    assert "too narrow to clear a model" not in tables.plain(verdict)
