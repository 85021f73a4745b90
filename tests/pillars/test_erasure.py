"""Erasure: the two ends of the scale and what cannot be said."""

from __future__ import annotations

import pytest
from made_traces import arena, evidence, study

from titer.core import Trace
from titer.evidence.panel import attacked
from titer.pillars.erasure import Erasure, erasure

GOOD = (0.9,) * 4
LOST = (0.9, 0.9, 0.4, 0.4)


def erased(
    made: list[Trace], subject: str, withheld: str | None = None, *, disjoint: bool = True
) -> Erasure:
    bench = arena(made)
    scored = attacked(evidence(made, subject), bench)
    return erasure(scored, bench, withheld, disjoint=disjoint)


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


def test_without_a_never_learned_model_the_fall_in_harm_is_what_comes_back() -> None:
    # The undefended model starts at 0.9, and a guess scores 0.25.
    made = study(
        half=((0.4, 0.5, 0.6, 0.65), GOOD),
        all=((0.4, 0.6, 0.8, 0.9), GOOD),
        none=((0.4,) * 4, GOOD),
        guess=((0.0, 0.1, 0.2, 0.25), GOOD),
        broken=((0.4, 0.5, 0.65, 0.4), LOST),
    )
    lone = [one for one in made if one.trial.subject != "oracle"]
    want = {"half": 0.5, "all": 1.0, "none": 0.0, "guess": 0.0, "broken": 0.5}
    for name, share in want.items():
        found = erased(lone, name)
        assert found.rtt.value is None
        assert found.regained.value == pytest.approx(share)
        assert None not in found.regained.interval
        assert erased(made, name).regained.value == pytest.approx(share)


def test_what_was_never_lost_is_not_regained() -> None:
    made = study(same=((0.9, 0.9, 0.9, 0.9), GOOD), near=((0.85,) * 4, GOOD))
    for name in ("base", "same", "near"):
        found = erased(made, name).regained
        assert found.value is None
        assert "nothing to regain" in found.note


def test_the_attackers_facts_must_be_known_to_be_others() -> None:
    made = study(half=((0.4, 0.5, 0.6, 0.65), GOOD))
    found = erased(made, "half", disjoint=False).regained
    assert found.value is None
    assert found.note.startswith("not told: the data do not name")
    assert erased(made, "half", "no row is valid").regained.note == "withheld: no row is valid"
