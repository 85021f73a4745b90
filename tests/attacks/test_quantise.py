"""Rounding as an attack: it brings back what a small update hid, and teaches nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from titer.attacks.quantise import PRESETS, Quantise
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.edits import linears
from titer.nn.quantise import Grid

from .planted import answers, knowing, loss

MakeRun = Callable[..., Run]


def _hidden(lm: LM, data: Data) -> LM:
    """``lm`` moved up the harmful loss by less than half a step of a 3-bit grid, from a point on
    that grid: the kind of unlearning whose update coarse levels swallow."""
    from titer.train.batches import collate, encode_all

    out = lm.clone()
    rows = encode_all(lm, data.harmful)
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    labels = batch.labels
    for _ in range(3):
        out.model.zero_grad()
        logits = out.model(**batch.inputs()).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()).backward()
        for was, now in zip(linears(lm.model), linears(out.model), strict=True):
            step = Grid(was.weight_OI, 3).step
            moved = now.weight_OI + 0.15 * step * now.module.weight.grad.sign()
            ends = (was.weight_OI == was.weight_OI.amax(1, keepdim=True)) | (
                was.weight_OI == was.weight_OI.amin(1, keepdim=True)
            )
            now.weight_OI.copy_(torch.where(ends, was.weight_OI, moved))
    out.model.zero_grad(set_to_none=True)
    return out


def test_coarse_levels_swallow_a_small_update(data: Data, make_run: MakeRun) -> None:
    start = Quantise(methods=("rtn",), bits=(3,), max_kl=100.0)(knowing(), make_run(0))
    hidden = _hidden(start, data)
    assert loss(hidden, data.harmful) > loss(start, data.harmful) + 1.0
    back = Quantise(bits=(8, 3), methods=("rtn",), max_kl=100.0)(hidden, make_run(0))
    assert loss(back, data.harmful) == pytest.approx(loss(start, data.harmful), abs=1e-3)
    kept = Quantise(bits=(8,), methods=("rtn",), max_kl=100.0)(hidden, make_run(0))
    assert loss(kept, data.harmful) > loss(start, data.harmful) + 0.8


def test_it_teaches_a_model_that_never_knew_nothing(lm: LM, data: Data, make_run: MakeRun) -> None:
    out = Quantise()(lm, make_run(0))
    assert out.digest() != lm.digest()
    assert answers(out, data.harmful) == 0.0
    assert abs(loss(out, data.harmful) - loss(lm, data.harmful)) < 0.2


def test_many_bits_keep_what_is_known(data: Data, make_run: MakeRun) -> None:
    for method in ("rtn", "gptq"):
        out = Quantise(methods=(method,), bits=(16,))(knowing(), make_run(0))
        assert answers(out, data.harmful) == 1.0
        assert loss(out, data.harmful) == pytest.approx(loss(knowing(), data.harmful), abs=1e-3)


def test_gptq_is_paid_for_block_by_block_and_left_out_when_it_cannot_be(
    lm: LM, make_run: MakeRun
) -> None:
    near, both = make_run(0), make_run(0)
    plain = Quantise(methods=("rtn",), bits=(4,))(lm, near)
    Quantise(methods=("gptq",), bits=(4,))(lm, both)
    assert near.spent.flops == 2.0 * lm.parameters_in_matmuls() * near.spent.tokens
    assert both.spent.flops > 2.0 * lm.parameters_in_matmuls() * both.spent.tokens
    poor = make_run(budget=Budget(steps=0, flops=near.spent.flops))
    assert Quantise(bits=(4,), methods=("rtn",))(lm, poor).digest() == plain.digest()


@pytest.mark.parametrize("settings", [{"bits": ()}, {"bits": (17,)}, {"methods": ()}, {"held": 0}])
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Quantise(**settings)


def test_the_preset_is_its_row() -> None:
    built = Quantise(**PRESETS["W03"].fields)
    assert (built.methods, built.bits) == (("rtn", "gptq"), (8, 4, 3))
    assert PRESETS["W03"].steps == (0, 0)
