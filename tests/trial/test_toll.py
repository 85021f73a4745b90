"""What work asks of a model is counted, and told for longer runs from short ones."""

from __future__ import annotations

from typing import Any

import pytest

from titer.conformance import tiny_data, tiny_lm
from titer.core import catalogue
from titer.core.method import Run
from titer.core.records import Budget, Kind
from titer.trial.pace import Line, Pace, measured
from titer.trial.toll import KINDS, Passes, Toll, counted, stand_in


def toll(kind: Kind, name: str, steps: int, depth: int = 4, spoken: int = 64, **given: Any) -> Toll:
    lm = stand_in(depth, 256)
    run = Run(budget=Budget(steps=steps), data=tiny_data())
    with counted(lm, spoken=spoken) as told:
        catalogue.build(kind, name, given)(lm, run)
    return told()


def test_a_fine_tune_is_a_pass_a_step() -> None:
    found = toll("attack", "finetune", 5, batch_size=4)
    assert found.of("full").calls == pytest.approx(5)
    assert found.of("full").tokens >= 5 * 4
    assert found.of("full").heads < found.of("full").tokens, "prompts carry no loss"
    assert toll("attack", "finetune", 5, parameters="lora").of("full") == Passes()
    assert toll("attack", "finetune", 5, parameters="lora").of("light").calls == pytest.approx(5)


def test_two_passes_that_wait_for_one_way_back_are_held_together() -> None:
    found = toll("defence", "npo", 3, batch_size=4)
    assert found.of("full").calls == pytest.approx(2 * 3)
    each = found.of("full").tokens / 3
    assert found.graph.tokens == pytest.approx(each, rel=0.2)
    assert found.models == 1


def test_a_pass_that_stops_half_way_counts_half() -> None:
    """RMU looks at block 7, and goes no further."""
    deep = toll("defence", "rmu", 2, depth=16)
    assert deep.of("light").heads == 0
    assert deep.of("light").calls < 2 * 2 * 0.75


def test_candidates_grow_with_the_blocks_and_are_screened() -> None:
    few, many = (toll("attack", "ablate", 0, depth=depth) for depth in (5, 25))
    assert many.of("read").calls > 2 * few.of("read").calls
    assert many.of("read").tokens < 5 * few.of("read").tokens, "most were judged on few rows"


def test_no_more_is_spoken_than_the_model_says() -> None:
    long, short = (toll("attack", "reinforce", 1, spoken=spoken) for spoken in (64, 3))
    assert short.of("spoken").calls == pytest.approx(3)
    assert long.of("spoken").calls > 3
    assert short.of("full").calls == long.of("full").calls


@pytest.mark.parametrize("name", ["finetune", "break_repair"])
def test_a_long_run_is_told_from_two_short_ones(name: str) -> None:
    two, five, eleven = (toll("attack", name, steps) for steps in (2, 5, 11))
    told = five.stretched(two, (11 - 5) / 3)
    assert told.of("full").calls == pytest.approx(eleven.of("full").calls, rel=0.1)
    assert told.of("full").tokens == pytest.approx(eleven.of("full").tokens, rel=0.2)
    # A few tokens are read to see what multiplies; they are read once.
    assert told.of("read").tokens == pytest.approx(eleven.of("read").tokens, abs=100)


def test_a_line_goes_through_what_was_measured() -> None:
    line = Line(2.0, 0.5, 0.25)
    passes = [Passes(1, 10, 4), Passes(1, 80, 32), Passes(1, 80, 80)]
    found = Line.through([line.of(one) for one in passes], passes)
    assert (found.call, found.token, found.head) == pytest.approx((2.0, 0.5, 0.25))
    falling = Line.through([3.0, 2.0, 1.0], passes)
    assert min(falling.call, falling.token, falling.head) >= 0


PACE = Pace(
    seconds={"full": Line(1.0, 0.1, 0.0), "read": Line(0.1, 0.01, 0.0)},
    peak={"full": Line(1000.0, 10.0, 1.0), "read": Line(500.0, 1.0, 0.0)},
    back={},
    weights=200,
    once=0.0,
)


def test_time_adds_up_and_memory_does_not() -> None:
    work = Toll(passes={"full": Passes(3, 30)}, graph=Passes(1, 50, 40), models=2, host=0.5)
    assert PACE.takes(work + work) == pytest.approx(2 * (3 * 1.0 + 30 * 0.1) + 1.0)
    # 540 wait, of which 200 go as gradients come; and two copies beside.
    assert PACE.needs(work + work) == 1000 + 540 - 200 + 2 * 200
    assert PACE.needs(Toll(passes={"full": Passes(1, 1)}, graph=Passes(1, 1, 0))) == 1000


def test_what_does_not_fit_has_no_price() -> None:
    work = Toll(passes={"light": Passes(1, 1)})
    assert PACE.takes(work) is None
    assert PACE.needs(work) is None


def test_a_pass_is_made_as_small_as_memory_asks() -> None:
    work = Toll(passes={"full": Passes(3, 300)}, graph=Passes(1, 100, 0), models=1)
    tokens = PACE.room(work, 1500)
    assert tokens == 50
    assert PACE.least(work, tokens) == 1500


def test_a_model_comes_back_to_the_bit_from_being_measured() -> None:
    lm = tiny_lm()
    before = lm.digest()
    pace = measured(lm, 12)
    assert lm.digest() == before
    assert set(pace.seconds) == set(pace.peak) == set(KINDS)
    assert all(line.token >= 0 and line.call >= 0 for line in pace.seconds.values())
    tight = measured(lm, 12, free=3 * pace.weights)
    assert "full" not in tight.seconds
    assert "light" in tight.seconds
