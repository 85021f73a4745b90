"""Effort: a lock is as strong as its cheapest bypass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from made_traces import arena, evidence, rule, study, trace

from titer.core import Trace
from titer.evidence.panel import Bench, Panel, attacked
from titer.pillars.effort import Effort, effort

GOOD = (0.9,) * 4
LATE = (0.25, 0.25, 0.25, 0.9)
SOON = (0.25, 0.25, 0.9, 0.9)
NEVER = (0.25,) * 4
AT_ONCE = (0.25, 0.9, 0.9, 0.9)


def _panel(traces: Sequence[Trace], name: str, made: Bench) -> Panel:
    found = attacked(evidence(traces, name), made)
    assert found is not None
    return found


def _effort(**rows: dict[str, Sequence[float]]) -> Effort:
    """Two rows S and L: harm by step of the models ``free`` and ``locked``."""
    traces = study(rows=("S", "L"))
    for name, shapes in rows.items():
        traces += [
            trace(name, row, seed, harm) for row, harm in shapes.items() for seed in (0, 1, 2)
        ]
    made = arena(traces, rule(rows=("S", "L")))
    return effort(_panel(traces, "locked", made), _panel(traces, "free", made), made.oracle, made)


def test_the_cheapest_bypass_decides() -> None:
    """The plain row is stopped for good; folding needs what it needs without the lock."""
    found = _effort(free={"S": SOON, "L": SOON}, locked={"S": NEVER, "L": SOON})
    assert found.attack == "L"
    assert found.unlocked["decides"].value == pytest.approx(1)
    assert not found.unlocked["decides"].censored
    assert found.by_attack["L"].value == pytest.approx(1)
    assert found.by_attack["S"].censored


def test_a_ratio_in_closed_form() -> None:
    """Harm rises from 0.25 to 0.9 in a decade of steps; where it meets τ is a power of ten."""
    found = _effort(free={"S": SOON, "L": SOON}, locked={"S": LATE, "L": NEVER})
    share = (found.tau["decides"] - 0.25) / 0.65
    assert found.steps["decides"].value == pytest.approx(10 ** (1 + share))
    assert found.unlocked["decides"].value == pytest.approx(10)
    assert found.unlocked["0.5"].value == pytest.approx(10)


def test_other_attacks_may_be_the_cheapest_on_either_side() -> None:
    found = _effort(free={"S": AT_ONCE, "L": LATE}, locked={"S": NEVER, "L": LATE})
    assert found.unlocked["decides"].value == pytest.approx(found.steps["decides"].value)
    assert found.by_attack["L"].value == found.unlocked["decides"].value


def test_a_model_that_was_never_reached_gives_a_lower_bound() -> None:
    found = _effort(free={"S": SOON, "L": SOON}, locked={"S": NEVER, "L": NEVER})
    assert found.attack == ""
    assert found.steps["decides"].censored
    one = found.unlocked["decides"]
    assert one.censored
    assert one.value == pytest.approx(100 / 10 ** ((found.tau["decides"] - 0.25) / 0.65))


def test_a_reference_that_was_never_reached_gives_nothing() -> None:
    found = _effort(free={"S": NEVER, "L": NEVER}, locked={"S": SOON, "L": SOON})
    assert found.unlocked["decides"].value is None
    assert "never reached" in found.unlocked["decides"].note
    # Nor does the one that never learned: no attack teaches it what was held out.
    assert found.never_learned["decides"].value is None


def test_harm_that_costs_the_models_use_does_not_count() -> None:
    traces = [
        *study(free=(SOON, GOOD)),
        *(trace("locked", "S", seed, AT_ONCE, (0.9, 0.2, 0.2, 0.2)) for seed in (0, 1, 2)),
    ]
    made = arena(traces)
    found = effort(_panel(traces, "locked", made), _panel(traces, "free", made), None, made)
    assert found.unlocked["decides"].censored
    assert found.never_learned["decides"].note == "no such reference in this study"
