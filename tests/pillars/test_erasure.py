"""Erasure: the two ends of the scale and what cannot be said."""

from __future__ import annotations

import pytest
from made_traces import arena, evidence, study

from titer.core import Trace
from titer.evidence.panel import attacked
from titer.pillars.erasure import Erasure, erasure

GOOD = (0.9,) * 4
LOST = (0.9, 0.9, 0.4, 0.4)


def erased(made: list[Trace], subject: str, withheld: str | None = None) -> Erasure:
    bench = arena(made)
    return erasure(attacked(evidence(made, subject), bench), bench, withheld)


def test_the_ends_of_the_scale() -> None:
    made = study(hidden=((0.0, 0.3, 0.6, 0.9), GOOD), gone=((0.25,) * 4, GOOD))
    assert erased(made, "hidden").rtt.value == pytest.approx(1)
    assert erased(made, "gone").rtt.value == pytest.approx(0)
    zero = erased(made, "oracle")
    assert zero.rtt == zero.honest_zero
    assert zero.honest_zero.value == pytest.approx(0.05 / 0.65)
    assert zero.oracle_after.value == pytest.approx(0.3)


def test_knowledge_in_a_damaged_model_is_still_knowledge() -> None:
    made = study(m=((0.1, 0.1, 0.9, 0.9), LOST))
    assert erased(made, "m").rtt.value == pytest.approx(1)


def test_undefined_and_withheld() -> None:
    made = study(base=((0.3, 0.9, 0.9, 0.9), GOOD))
    assert erased(made, "base").rtt.value is None
    assert "differ by under" in erased(made, "base").rtt.note
    lone = [one for one in made if one.trial.subject != "oracle"]
    assert erased(lone, "base").rtt.value is None
    assert erased(made, "base", "S seed 0 failed").note == "withheld: S seed 0 failed"
