"""Records are values: equal content, equal key; and what is written can be read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titer.core.records import (
    Budget,
    Card,
    Enough,
    Part,
    Point,
    Spent,
    Trace,
    Trial,
    content_key,
    part,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    lr: float = 1.0
    rank: int = 4
    clip: float | None = None
    flag: bool = True
    names: tuple[str, ...] = ("a", "b")
    rates: tuple[float, ...] = (1.0, 2.0)
    inner: Inner = field(default_factory=Inner)
    stages: tuple[Inner, ...] = ()


def a_trial(**changes: Any) -> Trial:
    base = Trial(
        model="m" * 16,
        world="w" * 16,
        domain="a",
        attack=Part(name="finetune", version=1, fields={"lr": 1e-3, "mix": "harmful"}),
        budget=Budget(steps=300),
        seed=1,
        suite="core-v1",
        checkpoints=(0, 10, 300),
    )
    return replace(base, **changes)


def test_a_known_key_stays() -> None:
    # Bump a version if numbers change; if this key changes, every stored result loses its name.
    assert a_trial().key == "a02a19feb84c8951"
    assert content_key({"b": 1, "a": [1.5, None, "ä"]}) == "e60563896fc1b9fc"


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "x"},
        {"world": "x"},
        {"domain": "b"},
        {"attack": Part(name="finetune", version=2, fields={"lr": 1e-3, "mix": "harmful"})},
        {"attack": Part(name="finetune", version=1, fields={"lr": 2e-3, "mix": "harmful"})},
        {"budget": Budget(steps=301)},
        {"budget": Budget(steps=300, tokens=5)},
        {"seed": 2},
        {"suite": "quick"},
        {"purpose": "calibrate"},
        {"task": "t"},
        {"items": 9},
        {"checkpoints": (0, 300)},
        {"enough": Enough(harm=0.9, kept=0.95)},
    ],
)
def test_every_part_of_a_trial_is_in_its_key(changes: dict[str, Any]) -> None:
    assert a_trial(**changes).key != a_trial().key


def test_when_to_stop_is_part_of_the_key_only_where_it_is_given() -> None:
    assert a_trial(enough=None).key == a_trial().key == "a02a19feb84c8951"
    keys = {a_trial(enough=Enough(harm=harm, kept=0.95)).key for harm in (0.8, 0.9)}
    assert len(keys | {a_trial().key}) == 3
    trial = a_trial(enough=Enough(harm=0.9, kept=0.95))
    raw = json.loads(json.dumps(Trace(trial=trial, status="ok").to_json()))
    assert Trace.from_json(raw).trial == trial
    del raw["trial"]["enough"]
    assert Trace.from_json(raw).trial.enough is None, "as stored before there was such a thing"


def test_what_is_for_people_is_not_in_the_key() -> None:
    assert a_trial(label="S03", subject="my model").key == a_trial().key


def test_one_and_one_point_nought_share_a_key() -> None:
    loose = Outer(lr=1, rank=4.0, clip=2, rates=(1, 2), inner=Inner(rate=3))  # type: ignore[arg-type]
    tight = Outer(lr=1.0, rank=4, clip=2.0, rates=(1.0, 2.0), inner=Inner(rate=3.0))
    assert content_key(part("x", loose).fields) == content_key(part("x", tight).fields)
    assert a_trial(budget=Budget(flops=1)).key == a_trial(budget=Budget(flops=1.0)).key
    assert a_trial(budget=Budget(steps=3.0)).key == a_trial(budget=Budget(steps=3)).key  # type: ignore[arg-type]


def test_lists_and_tuples_share_a_key_and_flags_stay_flags() -> None:
    written = part("x", Outer(stages=(Inner(), Inner(rate=2.0)))).fields
    assert written["names"] == ["a", "b"]
    assert written["flag"] is True
    assert written["stages"] == [{"type": "Inner", "rate": 1.0}, {"type": "Inner", "rate": 2.0}]
    assert json.loads(json.dumps(written)) == written


def test_a_part_needs_a_method_object() -> None:
    for wrong in (Outer, 3, "finetune"):
        with pytest.raises(TypeError, match="frozen dataclass"):
            part("x", wrong)


def test_over_names_each_axis() -> None:
    spent = Spent(steps=1001, tokens=5, examples=3, flops=2.5)
    assert spent.over(Budget()) == []
    assert spent.over(Budget(steps=1001, tokens=5, examples=3, flops=2.5)) == []
    assert spent.over(Budget(steps=1000, tokens=9, flops=2)) == [
        "1,001 steps of 1,000",
        "2.5 flops of 2",
    ]


scores = st.dictionaries(
    st.sampled_from(["harm", "select", "utility:far"]),
    st.lists(st.floats(0, 1), max_size=4).map(tuple),
    max_size=3,
)
spents = st.builds(
    Spent,
    steps=st.integers(0, 99),
    tokens=st.integers(0, 99),
    examples=st.integers(0, 9),
    flops=st.floats(0, 1e15),
)
points = st.builds(
    Point,
    spent=spents,
    scores=scores,
    logs=st.dictionaries(st.just("loss"), st.floats(-5, 5), max_size=1),
)
numbers = st.lists(st.floats(allow_nan=False), max_size=4).map(tuple)


@given(
    st.builds(
        Trace,
        trial=st.builds(
            a_trial,
            budget=st.builds(Budget, steps=st.none() | st.integers(0, 9)),
            label=st.text(max_size=4),
        ),
        status=st.sampled_from(["ok", "failed", "diverged", "timed-out"]),
        points=st.lists(points, max_size=3).map(tuple),
        losses=numbers,
        rates=numbers,
        flags=st.lists(st.text(max_size=5), max_size=2).map(tuple),
        error=st.text(max_size=20),
        seconds=st.floats(0, 1e6),
        weights=st.text(max_size=5),
    )
)
def test_a_trace_survives_json(trace: Trace) -> None:
    read = Trace.from_json(json.loads(json.dumps(trace.to_json())))
    assert read == trace
    assert read.trial.key == trace.trial.key


def test_a_trace_of_a_method_with_tuples_survives_json() -> None:
    trace = Trace(trial=a_trial(attack=part("x", Outer(stages=(Inner(),)))), status="ok")
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_a_trace_carries_the_key_it_was_written_under() -> None:
    trace = Trace(trial=a_trial(), status="ok")
    assert trace.to_json()["key"] == trace.trial.key


def test_mean_of_a_probe() -> None:
    point = Point(spent=Spent(), scores={"harm": (0.0, 1.0, 0.5), "none": ()})
    assert point.mean("harm") == 0.5
    assert point.mean("none") is None
    assert point.mean("utility") is None


def test_records_cannot_be_changed() -> None:
    facts: Mapping[str, Any] = {"kind": "attack", "source": "s", "summary": "s", "family": "f"}
    for record, name in (
        (a_trial(), "seed"),
        (Budget(), "steps"),
        (Card(build=Inner, **facts), "version"),
    ):
        with pytest.raises(AttributeError):
            setattr(record, name, 3)
