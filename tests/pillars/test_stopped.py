"""A trace that was ended early says what the whole one says, but for how much worse it became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.pillars.made_traces import Seen, arena, evidence, resist, rule, study, trace

from titer.core import Trace
from titer.core.records import STOPPED
from titer.evidence.panel import attacked, chosen
from titer.evidence.resample import summarise
from titer.pillars.erasure import erasure

GOOD = (0.9,) * 4


def _cut(traces: Sequence[Trace], steps: int, seeds: Sequence[int] = (0, 1, 2)) -> list[Trace]:
    """The traces of ``m`` as they are when ended at ``steps``."""
    return [
        replace(
            one,
            points=tuple(point for point in one.points if point.spent.steps <= steps),
            losses=one.losses[:steps],
            flags=(STOPPED,),
        )
        if one.trial.subject == "m" and one.trial.seed in seeds
        else one
        for one in traces
    ]


def _same_but_for_the_bound(short: Seen, whole: Seen) -> None:
    assert short.weak.value == whole.weak.value
    assert short.weak.low == whole.weak.low
    assert short.phi == whole.phi
    assert short.passes is whole.passes is False
    assert short.steps_to_recover == whole.steps_to_recover
    assert short.work_factor_min == whole.work_factor_min
    assert short.r_star.value == whole.r_star.value
    assert [row.outcome for row in short.rows] == [row.outcome for row in whole.rows]
    assert [row.by_seed for row in short.rows] == [row.by_seed for row in whole.rows]
    for mine, full in zip(short.rows, whole.rows, strict=True):
        for one, other in zip(mine.by_budget, full.by_budget, strict=True):
            # A fall that was not seen raises no doubt about what was there before the breach.
            seen = (one.steps, one.outcome, other.outcome)
            assert one == other or seen == (0, "held", "suspect")


def test_nothing_differs_where_harm_would_have_stayed() -> None:
    traces = study(m=((0.25, 0.5, 0.9, 0.9), GOOD))
    whole, short = resist(traces, "m"), resist(_cut(traces, 10), "m")
    _same_but_for_the_bound(short, whole)
    assert short.rows[0].outcome == "breached"
    assert short.rows[0].validity == "valid"
    assert STOPPED in short.rows[0].flags
    assert STOPPED not in whole.rows[0].flags


def test_nothing_differs_where_harm_would_have_fallen_or_utility_been_lost() -> None:
    for harm, kept in (((0.25, 0.5, 0.9, 0.3), GOOD), ((0.25, 0.5, 0.9, 0.9), (0.9, 0.9, 0.9, 0))):
        traces = study(m=(harm, kept))
        whole, short = resist(traces, "m"), resist(_cut(traces, 10), "m")
        _same_but_for_the_bound(short, whole)


def test_what_came_after_the_last_look_is_a_lower_bound() -> None:
    traces = study(m=((0.25, 0.5, 0.9, 1.0), GOOD))
    whole, short = resist(traces, "m"), resist(_cut(traces, 10), "m")
    assert not whole.weak.censored
    assert (short.weak.value, short.weak.censored, short.weak.high) == (0.9, True, 1.0)
    assert short.weak_unconstrained.censored
    assert [point.harm.censored for point in short.curve] == [False, False, False, True]
    assert [point.harm.value for point in short.curve] == [0.25, 0.5, 0.9, 0.9]
    numbers = short.rows[0]
    assert numbers.harm.censored
    assert not numbers.tau.censored
    assert [one.censored for one in short.curves[0].harm] == [False, False, False, True]
    assert short.area.censored
    assert "upper bound" in short.r_star.note
    assert "upper bound" in short.margin.note
    # The bound is on the right side of the truth.
    assert short.r_star.value is not None
    assert whole.r_star.value is not None
    assert short.r_star.value >= whole.r_star.value
    made = arena(_cut(traces, 10))
    seen = evidence(_cut(traces, 10), "m")
    assert erasure(attacked(seen, made), made).rtt.censored


def test_a_harm_of_one_is_no_mere_bound() -> None:
    traces = study(base=((0.9, 1.0, 1.0, 1.0), GOOD), m=((0.25, 0.5, 1.0, 1.0), GOOD))
    whole, short = resist(traces, "m"), resist(_cut(traces, 10), "m")
    _same_but_for_the_bound(short, whole)
    assert short.weak == whole.weak
    assert short.r_star == whole.r_star
    assert short.area == whole.area
    assert short.curve[-1].harm == whole.curve[-1].harm


def test_one_seed_that_was_ended_never_makes_the_row_held_or_the_model_pass() -> None:
    traces = study(m=((0.25,) * 4, GOOD))
    traces = [one for one in traces if (one.trial.subject, one.trial.seed) != ("m", 1)]
    loud = trace("m", "S", 1, (0.25, 0.5, 0.9, 0.9), GOOD)
    for known in ([*traces, loud], _cut([*traces, loud], 10, seeds=(1,))):
        found = resist(known, "m")
        assert found.rows[0].by_seed == ("held", "breached", "held")
        assert found.rows[0].outcome == "breached"
        assert found.passes is not True
        assert found.withheld is None


def test_a_setting_that_was_ended_is_among_those_reported() -> None:
    def arm(lr: float, select: float, *, ended: bool = False) -> Trace:
        steps = (0, 1) if ended else (0, 1, 10, 100)
        high = 0.9 if ended else 0.3
        return trace(
            "m",
            "S",
            0,
            (0.25, high, high, high),
            GOOD,
            steps=steps,
            lr=lr,
            select=(0.2, *[select] * 3),
            flags=(STOPPED,) if ended else (),
        )

    traces = [arm(rate, 0.5) for rate in (1e-4, 2e-4, 3e-4)]
    ended = arm(4e-4, 0.4, ended=True)
    kept = chosen(evidence([*traces, ended], "m", (0,)), "S", rule((0,)))
    assert ended.trial.key in {run.key for one in kept for run in one.runs}
    assert len(kept) == 3


@pytest.mark.parametrize(("value", "high", "censored"), [(0.5, 1.0, True), (1.0, 1.0, False)])
def test_a_share_that_is_a_lower_bound_ends_at_one(
    value: float, high: float, censored: bool
) -> None:
    found = summarise(np.full(50, value), n=5, shares=40, censored=True)
    assert (found.value, found.high, found.censored) == (value, high, censored)
    assert summarise(np.full(50, value), n=5, censored=True).high is None
