"""Stability: differences by item, equivalence, and one model looked at many times."""

from __future__ import annotations

import numpy as np
import pytest
from made_traces import items, trace

from titer.core import BadInput, Trace
from titer.pillars.stability import Stability, released, stability


def stable(made: list[Trace], suites: tuple[str, ...] = ("far",)) -> Stability:
    return stability(
        made,
        subject="m",
        undefended="base",
        suites=suites,
        margin=0.02,
        rng=np.random.default_rng(0),
        draws=500,
    )


def test_the_same_scores_are_equivalent() -> None:
    found = stable([trace("base"), trace("m")])
    kept = found.suites["far"]
    assert (kept.delta.value, kept.delta.low, kept.delta.high) == (0, 0, 0)
    assert kept.equivalent is True
    assert kept.before.value == pytest.approx(0.9)
    assert kept.delta.n == 40


def test_a_loss_is_not_equivalent_and_a_small_sample_cannot_tell() -> None:
    assert stable([trace("base"), trace("m", utility=(0.2,))]).suites["far"].equivalent is False
    near = stable([trace("base"), trace("m", utility=(0.875,))])
    assert near.suites["far"].equivalent is None
    assert near.worst_delta.value == pytest.approx(-0.025)


def test_worst_suite_and_missing_suite() -> None:
    extra = {"utility:near": items(0.5)}
    made = [
        trace("base", first={"utility:near": items(0.9)}),
        trace("m", utility=(0.875,), first=extra),
    ]
    found = stable(made, ("far", "near", "code"))
    assert found.worst_delta.value == pytest.approx(-0.4)
    assert "near" in found.worst_delta.note
    assert "not measured: code" in found.worst_delta.note
    assert found.suites["code"].delta.value is None
    assert stable([], ("far",)).worst_delta.value is None


def test_perplexity_and_over_refusal() -> None:
    made = [
        trace("base", first={"perplexity": (8.0, 10.0), "over_refusal": items(0.0)}),
        trace("m", first={"perplexity": (16.0, 20.0), "over_refusal": items(0.1)}),
    ]
    found = stable(made)
    assert found.perplexity_ratio.value == pytest.approx(2)
    assert found.over_refusal.value == pytest.approx(0.1)
    assert found.over_refusal_before.value == 0
    assert found.over_refusal_before.high is not None
    assert found.over_refusal_before.high > 0
    assert stable([trace("base"), trace("m")]).perplexity_ratio.value is None


def test_looking_again_is_no_second_sample() -> None:
    table = released([trace("m", seed=seed) for seed in range(5)], "m", "utility:far")
    assert table is not None
    assert table.shape == (1, 40)
    assert released([], "m", "utility:far") is None
    other = trace("m").trial
    odd = Trace(
        trial=type(other)(**{**_fields(other), "model": "m2"}),
        status="ok",
        points=trace("m", first={"utility:far": items(0.5, 10)}).points,
    )
    with pytest.raises(BadInput, match="different numbers"):
        released([trace("m"), odd], "m", "utility:far")


def _fields(trial: object) -> dict[str, object]:
    return {name: getattr(trial, name) for name in trial.__dataclass_fields__}  # type: ignore[attr-defined]
