"""RepSelect: its filter on a known spectrum, its limit, and its adapter taken off again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.repselect import UNTOUCHED, RepSelect, damped
from titer.nn.trainable import named_matrices
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_kl, answer_loss

MakeRun = Callable[..., Run]


def test_the_filter_turns_the_leading_spectrum_round() -> None:
    draw = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(7, 5, generator=draw, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(6, 5, generator=draw, dtype=torch.float64))
    sizes = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    want = torch.tensor([2.0 * 2.0 / 8.0, 1.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    got = damped((left * sizes) @ right.T, 3)
    assert_close(got, (left * want) @ right.T, atol=1e-6, rtol=0)
    one = left[:, :1] @ right[:, :1].T
    assert_close(damped(one, 1), one)
    assert damped(one, 0) is one
    stacked = torch.stack([one, 2 * one])  # experts, each by itself
    assert_close(damped(stacked, 1), stacked)


def test_without_filter_and_adapter_it_is_one_ascent_step(lm: LM, make_run: MakeRun) -> None:
    method = RepSelect(count=0, relearn_lr=1e-12, batch_size=99)
    run = make_run(4)
    out = method(lm, run)
    twin = lm.clone()
    for _, weight in named_matrices(twin, method.modules):
        weight.requires_grad_(True)
    batch = collate(encode_all(lm, run.data.harmful), lm.tokenizer.pad_token_id, lm.device)
    answer_loss(twin.model, batch).backward()
    length = run.course[-1]["length"]
    assert length > 0
    before = dict(lm.model.named_parameters())
    ways = {
        name: weight.grad
        for name, weight in twin.model.named_parameters()
        if any(weight is one for _, one in named_matrices(twin, method.modules))
    }
    for name, weight in out.model.named_parameters():
        moved = weight - before[name]
        want = length * ways[name] if name in ways else torch.zeros_like(moved)
        assert_close(moved.detach(), want, rtol=1e-3, atol=1e-6)


def test_the_limit_is_met_or_the_model_is_untouched(lm: LM, make_run: MakeRun) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(20))
    run = make_run(4)
    out = RepSelect(budget=0.02, probe=99)(knowing, run)
    kept = collate(encode_all(lm, run.data.retain), lm.tokenizer.pad_token_id, lm.device)
    bad = collate(encode_all(lm, run.data.harmful), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        assert 0.018 <= float(answer_kl(knowing.model, out.model, kept)) <= 0.0201
        assert float(answer_loss(out.model, bad)) > float(answer_loss(knowing.model, bad))
    run = make_run(4)
    idle = RepSelect(budget=1e-30)(knowing, run)
    assert idle.digest() == knowing.digest()
    assert UNTOUCHED in run.flags


@pytest.mark.parametrize("other", [{"count": 0}, {"relearn_lr": 5.0}, {"modules": ("up_proj",)}])
def test_its_settings_are_alive(other: Any, lm: LM, make_run: MakeRun) -> None:
    base = RepSelect(relearn_lr=1.0)
    plain = base(lm, make_run(4))
    assert replace(base, **other)(lm, make_run(4)).digest() != plain.digest()
