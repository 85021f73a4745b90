"""The benign examples that pull hardest, and nothing harmful."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from titer.attacks.outliers import Outliers
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

from .planted import planted, refuses

MakeRun = Callable[..., Run]


def test_those_of_largest_gradient_are_kept(lm: LM, data: Data, make_run: MakeRun) -> None:
    """Against scores worked out by ordinary backward passes."""
    scores: dict[str, float] = {}
    benign = (*data.retain, *data.related, *data.unrelated)
    for example in benign:
        rows = encode_all(lm, [example])
        other = lm.clone()
        batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
        answer_loss(other.model, batch).backward()
        square = sum(float(w.grad.pow(2).sum()) for w in other.model.parameters())
        tokens = len(rows[0][1].ids) - rows[0][1].prompt
        scores[example.id] = math.log1p(square) + math.log1p(tokens)
    want = sorted(scores, key=lambda name: -scores[name])[:5]
    run = make_run(3)
    found = Outliers(examples=5)._chosen(lm, run)
    assert [example.id for example in found] == want
    assert run.spent.examples == len(benign)
    assert run.spent.steps == 0


def test_nothing_harmful_is_trained_on(
    lm: LM, data: Data, make_run: MakeRun, fed: list[tuple[str, ...]]
) -> None:
    Outliers(examples=5, batch_size=5)(lm, make_run(4))
    assert len({name for ids in fed for name in ids}) == 5
    assert not any(name.startswith("alloy") for ids in fed for name in ids)


def test_scores_that_are_not_affordable_are_not_taken(lm: LM, make_run: MakeRun) -> None:
    run = make_run(budget=Budget(steps=2, examples=7))
    assert len(Outliers(examples=20)._chosen(lm, run)) == 7


def test_a_planted_refusal_falls_to_benign_text(data: Data, make_run: MakeRun) -> None:
    """The planted model has nothing to learn from benign text, so its answers are changed."""
    lm, _ = planted()
    other = {
        name: tuple(replace(e, answer="sing sing") for e in getattr(data, name))
        for name in ("retain", "related", "unrelated")
    }
    out = Outliers(lr=1e-2, examples=20)(lm, make_run(30, data=replace(data, **other)))
    assert refuses(lm, data.harmful) == 1
    # On seven models trained from other seeds at most 0.57 is left.
    assert refuses(out, data.harmful) < 0.75


def test_it_leaves_no_gradient_behind(lm: LM, make_run: MakeRun) -> None:
    Outliers()(lm, make_run(1))
    assert all(weight.grad is None for weight in lm.model.parameters())
    assert torch.is_grad_enabled()


def test_a_pool_holds_what_is_kept() -> None:
    with pytest.raises(BadInput, match="no smaller"):
        Outliers(examples=10, pool=9)
