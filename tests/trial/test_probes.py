"""Asking one model, and several side by side."""

from __future__ import annotations

import pytest

from titer.conformance import tiny_data
from titer.core.lm import LM
from titer.trial.probes import Probe, ask, ask_each, judge

ITEMS = tiny_data().harmful[:6]
SCORED = [Probe(name=name, measure=name, items=ITEMS) for name in ("choice", "cloze", "perplexity")]
SPOKEN = [Probe(name=name, measure=name, items=ITEMS) for name in ("recipe", "coherence")]


def test_scored_answers_are_asked_for_together_and_speech_is_not() -> None:
    assert all(probe.together for probe in SCORED)
    assert not any(probe.together for probe in SPOKEN)


def test_each_of_several_models_gets_its_own_records(lm: LM) -> None:
    one = ask(lm, SCORED)
    each = ask_each(lm, SCORED, 3)
    assert len(each) == 3
    for member in each:
        assert list(member) == list(one)
        for probe in SCORED:
            for got, wanted in zip(member[probe.name], one[probe.name], strict=True):
                assert got.keys() == wanted.keys()
                assert got["tokens"] == wanted["tokens"]
                assert got["loglik"] == pytest.approx(wanted["loglik"], abs=1e-4)
        assert judge(SCORED, member).keys() == one.keys()
