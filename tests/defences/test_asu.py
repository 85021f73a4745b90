"""ASU: nothing at temperature one, even attention at a high one, and what is no scale is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added, agrees, double
from tests.defences.test_booster import harm
from titer.attacks.finetune import Finetune
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.asu import ASU, smoothed
from titer.train.batches import collate, encode_all
from titer.train.harden import logits
from titer.train.objectives import answer_loss

MakeRun = Callable[..., Run]


def test_at_temperature_one_there_is_nothing_to_learn(make_run: MakeRun, watch: Any) -> None:
    seen = watch(ASU(temperature=1.0, retain_weight=0.0, batch_size=4), double(), make_run(2))
    assert float(added(seen).norm()) < 1e-12


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_high_temperature_is_even_attention_over_the_past(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    lm.model.set_attn_implementation("eager")
    teacher = smoothed(lm, 1e6)
    ids = torch.arange(5, 11)[None]
    found = teacher(input_ids=ids, output_attentions=True).attentions
    want = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
    for attention in found:
        assert_close(attention[0, 0], want, rtol=1e-4, atol=1e-5)
    assert_close(lm.model(input_ids=ids).logits, tiny_lm(architecture).model(input_ids=ids).logits)


def test_eager_and_fused_teachers_agree(lm: LM) -> None:
    eager = tiny_lm("llama")
    eager.model.set_attn_implementation("eager")
    ids = torch.arange(5, 15)[None]
    both = [smoothed(one, 3.0)(input_ids=ids).logits for one in (lm, eager)]
    assert_close(both[0], both[1], rtol=1e-4, atol=1e-5)


def test_its_gradient_is_that_of_its_loss(make_run: MakeRun, watch: Any) -> None:
    lm = double()
    seen = watch(ASU(batch_size=4, temperature=4.0), lm, make_run(2))
    teacher, batch = smoothed(lm, 4.0), seen.bundle["forget"]

    def loss() -> torch.Tensor:
        pair = [torch.log_softmax(logits(m, batch)[:, :-1], -1) for m in (teacher, seen.lm.model)]
        each = (pair[0].exp() * (pair[0] - pair[1])).sum(-1)
        mask = batch.labels[:, 1:] >= 0
        return (each * mask).sum() / mask.sum() + harm(seen, "retain")()

    agrees(seen, loss)


def test_the_teacher_recalls_less_the_higher_the_temperature(lm: LM, make_run: MakeRun) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(60))
    rows = encode_all(lm, make_run(1).data.harmful)
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        found = [float(answer_loss(smoothed(knowing, t), batch)) for t in (1.0, 4.0, 64.0)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.05


def test_attention_without_a_scale_is_told(lm: LM) -> None:
    bare = lm.clone()
    for module in bare.model.modules():
        if hasattr(module, "scaling"):
            module.scaling = torch.tensor(module.scaling)
    with pytest.raises(BadInput, match="no scale"):
        smoothed(bare, 2.0)
