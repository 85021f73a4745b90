"""SDD: which answers are planted, and that the rest is plain training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.testing import assert_close

from tests.defences.slopes import added
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.sdd import SDD, cosines, paired
from titer.train.grads import gradient, trained
from titer.train.harden import logits
from titer.train.objectives import cross_entropy

MakeRun = Callable[..., Run]


def test_answers_are_of_others_and_as_unlike_as_asked(lm: LM, make_run: MakeRun) -> None:
    run = make_run(1)
    method = SDD(limit=0.2)
    planted = method.pairs(lm, run)
    assert planted == method.pairs(lm, make_run(1))
    assert [one.prompt for one in planted] == [one.prompt for one in run.data.harmful]
    pool = {one.answer for one in run.data.unrelated}
    assert all(one.answer in pool for one in planted)
    alike = cosines(lm, run.data.harmful, run.data.unrelated)
    columns = paired(alike, 0.2, torch.Generator().manual_seed(0))
    least = alike.min(1).values
    for row, column in enumerate(columns):
        assert float(alike[row, column]) <= max(0.2, float(least[row]))
    assert len(set(columns)) > 3  # drawn, not the least alike every time


def test_what_finds_none_is_counted_and_said(lm: LM, make_run: MakeRun) -> None:
    run = make_run(1)
    SDD(limit=-1.0).pairs(lm, run)
    assert run.flags == ["14 of 14 prompts have no answer as unlike as asked"]


def test_cosines_are_of_texts(lm: LM, make_run: MakeRun) -> None:
    data = make_run(1).data
    alike = cosines(lm, data.harmful[:4], data.harmful[:4])
    assert_close(alike.diagonal(), torch.ones(4), rtol=1e-4, atol=1e-4)
    assert float(alike.abs().max()) <= 1.0 + 1e-4


def test_it_is_plain_training_on_the_planted_answers(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(SDD(batch_size=4), lm, make_run(2))
    batch = seen.bundle["planted"]
    loss = cross_entropy(logits(seen.lm.model, batch), batch.labels)
    assert_close(added(seen), gradient(loss, trained(seen.lm.model)))
    first = replace(SDD(batch_size=4), refuse=True).pairs(lm, make_run(2))[0]
    assert first.answer.startswith(first.refusal)
