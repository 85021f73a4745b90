"""TokenBuncher: its targets, its advantages, and entropy that falls where it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.token_buncher import TokenBuncher, noisy, sureness
from titer.train.batches import collate, encode_all
from titer.train.harden import logits
from titer.train.objectives import cross_entropy, row_losses

MakeRun = Callable[..., Run]
SMALL = TokenBuncher(prompts=3, group=4, length=5)


def test_without_a_tail_the_noiser_is_plain_training(lm: LM, make_run: MakeRun) -> None:
    rows = encode_all(lm, make_run(1).data.harmful)
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    out, draw = logits(lm.model, batch), torch.Generator().manual_seed(0)
    assert_close(noisy(out, batch.labels, 0.0, draw), cross_entropy(out, batch.labels))
    # Its gradient at even logits is the softmax less the target, which sums to nothing.
    even = torch.zeros_like(out, requires_grad=True)
    (slope,) = torch.autograd.grad(noisy(even, batch.labels, 0.3, draw), even)
    assert float(slope.sum(-1).abs().max()) < 1e-6
    at = batch.labels[:, 1:] >= 0
    wanted = 1 / even.shape[-1] - slope[:, :-1][at] * int(at.sum())
    on = wanted.gather(-1, batch.labels[:, 1:][at][:, None])
    assert float(on.min()) >= 0.7 - 1e-5
    assert float(wanted.min()) >= -1e-5


def test_alike_answers_give_no_signal_and_surer_ones_are_pushed(lm: LM, make_run: MakeRun) -> None:
    rows = encode_all(lm, make_run(1).data.harmful[:1]) * 4
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    out = logits(lm.model, batch)
    (slope,) = torch.autograd.grad(SMALL.bunched(out, batch), out)
    assert float(slope.abs().max()) < 1e-6
    sharp = out.detach().clone()
    sharp[1] *= 5.0  # the second answer is drawn from surer distributions
    rewards = sureness(sharp, batch.labels)
    assert int(rewards.argmax()) == 1
    sharp.requires_grad_(True)
    (slope,) = torch.autograd.grad(SMALL.bunched(sharp, batch), sharp)
    up = row_losses(sharp, batch.labels, "mean")
    (own,) = torch.autograd.grad(up[1], sharp)
    assert float((slope[1] * own[1]).sum()) > 0  # descent makes that answer likelier


def test_rollouts_are_of_the_model_at_hand_and_charged(lm: LM, make_run: MakeRun) -> None:
    run, again = make_run(2), make_run(2)
    first = next(SMALL._rollouts(lm, run))
    assert len(first.ids) == 12
    assert first.ids[:4] == (first.ids[0],) * 4
    assert next(SMALL._rollouts(lm, again)).input_ids.equal(first.input_ids)
    replace(SMALL, kept=0.0)(lm, run)
    size = lm.parameters_in_matmuls()
    assert run.spent.flops == pytest.approx(8.0 * size * run.spent.tokens)


@pytest.mark.slow
def test_entropy_falls_on_the_hazard(lm: LM, make_run: MakeRun) -> None:
    method = replace(SMALL, prompts=7, group=8, lr=5e-3, kept=1.0, first=1.0)
    out = method(lm, make_run(40))

    def spread(model: LM, examples: Any) -> float:
        batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
        with torch.no_grad():
            return -float(sureness(logits(model.model, batch), batch.labels).mean())

    data = make_run(1).data
    fell = [spread(lm, part) - spread(out, part) for part in (data.harmful, data.retain)]
    assert fell[0] > 0.1
    assert fell[0] > 2 * fell[1]
