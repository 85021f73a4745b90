"""Ascent on what is to be forgotten, descent on what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.grad_diff import GradDiff
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

MakeRun = Callable[..., Run]


def _loss(lm: LM, examples: Any) -> float:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    return float(answer_loss(lm.model, batch).detach())


@pytest.mark.parametrize("parameters", ["full", "lora"])
def test_without_a_forget_weight_it_is_finetuning_on_retain(
    lm: LM, make_run: MakeRun, parameters: Any
) -> None:
    runs = [make_run(4), make_run(4)]
    common = {"lr": 1e-3, "batch_size": 5, "parameters": parameters}
    defended = GradDiff(forget_weight=0.0, **common)(lm, runs[0])
    tuned = Finetune(mix="retain", **common)(lm, runs[1])
    for one, other in zip(defended.model.parameters(), tuned.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert tuned.digest() != lm.digest()
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-4)


def test_ascent_is_minus_descent(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(GradDiff(retain_weight=0.0), lm, make_run(1))
    up = seen.gradient()
    seen.lm.model.zero_grad()
    answer_loss(seen.lm.model, seen.bundle["forget"]).backward()
    down = {name: weight.grad for name, weight in seen.lm.model.named_parameters()}
    assert up.keys() == down.keys()
    for name, gradient in up.items():
        assert_close(gradient, -down[name], rtol=1e-5, atol=1e-7)
    assert any(bool(part.any()) for part in up.values())


def test_the_two_weights_scale_the_two_terms(lm: LM, make_run: MakeRun, watch: Any) -> None:
    def gradient(forget: float, retain: float) -> dict[str, torch.Tensor]:
        method = GradDiff(forget_weight=forget, retain_weight=retain)
        return watch(method, lm, make_run(1)).gradient()

    up, kept, both = gradient(1.0, 0.0), gradient(0.0, 1.0), gradient(0.5, 3.0)
    for name in both:
        assert_close(both[name], 0.5 * up[name] + 3.0 * kept[name], rtol=1e-4, atol=1e-6)


def test_forgetting_goes_past_chance_without_a_clamp(lm: LM, data: Data, make_run: MakeRun) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(30))
    assert _loss(knowing, data.harmful) < 0.5 * math.log(len(lm.tokenizer))
    out = GradDiff(lr=1e-2)(knowing, make_run(40))
    assert _loss(out, data.harmful) > 2 * math.log(len(lm.tokenizer))


def test_divergence_from_the_start_pulls_only_once_there_is_some(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    at_start = watch(GradDiff(forget_weight=0.0, retain="kl"), lm, make_run(1)).gradient()
    assert all(float(part.abs().max()) < 1e-6 for part in at_start.values())
    out = GradDiff(forget_weight=0.0, retain="kl", lr=1e-2)(lm, make_run(3))
    shift = [
        float((a - b).detach().abs().max())
        for a, b in zip(out.model.parameters(), lm.model.parameters(), strict=True)
    ]
    assert max(shift) < 0.05


@pytest.mark.parametrize("retain", ["ce", "kl"])
def test_a_frozen_forward_is_charged(lm: LM, make_run: MakeRun, retain: Any) -> None:
    run = make_run(3)
    GradDiff(retain=retain, batch_size=99)(lm, run)
    batch = collate(encode_all(lm, run.data.retain), 1, lm.device)
    extra = 2.0 * 3 * batch.tokens if retain == "kl" else 0.0
    size = lm.parameters_in_matmuls()
    assert run.spent.flops == size * (6.0 * run.spent.tokens + extra)


def test_it_says_which_split_is_missing(lm: LM, data: Data, make_run: MakeRun) -> None:
    for half, role in (
        (Data(retain=data.retain), "forget"),
        (Data(harmful=data.harmful), "retain"),
    ):
        with pytest.raises(BadInput, match=f"no {role} examples"):
            GradDiff()(lm, make_run(1, data=half))
