"""Pruning: scores by hand, and a planted refusal cut out of the weights it lives in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.prune import PRESETS, Prune, largest, snip
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.edits import linears
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

from .planted import answers, planted, refuses

MakeRun = Callable[..., Run]


def test_the_largest_share_of_a_matrix_or_of_each_row() -> None:
    scores = torch.tensor([[1.0, 9.0, 3.0, 2.0], [8.0, 7.0, 6.0, 5.0]])
    assert largest(scores, 0.5, by_row=False).tolist() == [
        [False, True, False, False],
        [True, True, True, False],
    ]
    assert largest(scores, 0.5, by_row=True).tolist() == [
        [False, True, True, False],
        [True, True, False, False],
    ]
    assert not largest(scores, 0.0, by_row=True).any()
    assert largest(scores, 1.0, by_row=False).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_snip_is_weight_times_gradient_example_by_example(
    architecture: Any, data: Data, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    rows = encode_all(lm, data.harmful[:3])
    found = snip(lm, make_run(), rows)
    assert found is not None
    for linear in linears(lm.model, [2]):
        total = torch.zeros_like(linear.weight_OI)
        for row in rows:
            lm.model.zero_grad()
            answer_loss(lm.model, collate([row], 1, lm.device)).backward()
            grad = linear.module.weight.grad
            turned = grad if isinstance(linear.module, torch.nn.Linear) else grad.T
            total += (linear.weight_OI * turned).abs()
        assert_close(found[linear.path], total, rtol=1e-4, atol=1e-7)


def test_snip_s_gradient_is_the_change_of_the_loss(data: Data, make_run: MakeRun) -> None:
    """Zeroing one weight moves the loss by about its score, where it is small."""
    lm = tiny_lm()
    rows = encode_all(lm, data.harmful[:1])
    scores = snip(lm, make_run(), rows)
    assert scores is not None
    batch = collate(rows, 1, lm.device)
    linear = linears(lm.model, [1])[0]
    flat = int(scores[linear.path].argmax())
    where = divmod(flat, linear.weight_OI.shape[1])
    with torch.no_grad():
        before = float(answer_loss(lm.model, batch))
        linear.weight_OI[where] *= 0.9
        moved = abs(float(answer_loss(lm.model, batch)) - before)
    assert moved == pytest.approx(0.1 * float(scores[linear.path][where]), rel=0.2, abs=2e-6)


@pytest.mark.parametrize("score", ["snip", "wanda"])
def test_a_refusal_that_lives_in_few_weights_is_cut_out(
    score: Any, data: Data, make_run: MakeRun
) -> None:
    lm, _ = planted(turned=False)
    assert refuses(lm, data.harmful) == 1.0
    run = make_run(16)
    out = Prune(score=score)(lm, run)
    assert run.spent.steps == 16
    assert refuses(out, data.harmful) == 0.0
    # The word's embedding still carries the channel, and drowns a part of what was known.
    assert answers(out, data.harmful) > 0.2
    assert answers(out, data.retain) > 0.7
    block = out.model.model.layers[0].self_attn
    assert not bool(block.v_proj.weight[12, 24] * block.o_proj.weight[24, 24])


def test_magnitude_takes_the_smallest(lm: LM, make_run: MakeRun) -> None:
    out = Prune(score="magnitude", q=(0.3,))(lm, make_run(1))
    for was, now in zip(linears(lm.model), linears(out.model), strict=True):
        gone = now.weight_OI == 0
        assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.01)
        assert float(was.weight_OI[gone].abs().max()) <= float(was.weight_OI[~gone].abs().min())
        assert_close(now.weight_OI[~gone], was.weight_OI[~gone], rtol=0, atol=0)


@pytest.mark.parametrize("score", ["snip", "wanda", "magnitude"])
def test_a_share_of_nothing_and_a_full_guard_change_nothing(
    lm: LM, make_run: MakeRun, score: Any
) -> None:
    assert Prune(score=score, q=(0.0,))(lm, make_run(9)).digest() == lm.digest()
    if score != "magnitude":
        assert Prune(score=score, p=(1.0,))(lm, make_run(9)).digest() == lm.digest()


def test_without_tokens_nothing_is_done(lm: LM, make_run: MakeRun) -> None:
    run = make_run(budget=Budget(steps=16, tokens=600))
    assert Prune()(lm, run).digest() == lm.digest()
    assert run.spent.tokens <= 600


@pytest.mark.parametrize("settings", [{"p": ()}, {"q": (1.5,)}, {"prompts": 0}])
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Prune(**settings)


def test_the_preset_is_its_row() -> None:
    built = Prune(**PRESETS["W01"].fields)
    assert built.score == "snip"
    assert built.p == built.q == (0.01, 0.03, 0.05, 0.1)
    assert PRESETS["W01"].steps == (16, 16)
