"""One way to the matrices of every architecture, and the moments of what goes into them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import embeddings, linears, moments, unpadded, untie, writers


def _inputs(lm: LM) -> dict[str, torch.Tensor]:
    ids = torch.tensor([lm.prompt_ids("how is alloy n3 made ?"), lm.prompt_ids("river n4 ? ? ? ?")])
    mask = torch.ones_like(ids)
    mask[1, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_writers_are_two_a_block_and_write_the_residual_width(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    found = writers(lm.model)
    assert [w.layer for w in found] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {w.weight_OI.shape[0] for w in found} == {lm.model.config.hidden_size}
    assert len(embeddings(lm.model)) == (2 if architecture == "gpt2" else 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_view_is_the_matrix_that_acts(architecture: Any) -> None:
    for linear in linears(tiny_lm(architecture).model, [1]):
        x = torch.randn(3, linear.weight_OI.shape[1])
        want = x @ linear.weight_OI.T + (0 if linear.bias_O is None else linear.bias_O)
        assert_close(linear.module(x), want)
        linear.weight_OI.zero_()
        assert not linear.module.weight.any()


def test_a_model_without_known_writers_is_refused(lm: LM, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("titer.nn.edits.WRITERS", {"odd_proj"})
        with pytest.raises(BadInput, match="block 0"):
            writers(lm.model)
    for block in lm.model.model.layers:
        block.__dict__["_modules"].clear()
    with pytest.raises(BadInput, match="no linear layers"):
        linears(lm.model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_untied_it_says_the_same_and_the_head_is_its_own(architecture: Any, tmp_path: Any) -> None:
    lm = tiny_lm(architecture)
    before = lm.model(**_inputs(lm)).logits
    out = lm.clone()
    untie(out)
    assert_close(out.model(**_inputs(lm)).logits, before, rtol=0, atol=0)
    head, table = out.model.get_output_embeddings().weight, out.model.get_input_embeddings().weight
    assert head is not table
    table.detach().zero_()
    out.save(tmp_path)
    assert LM.load(tmp_path).digest() == out.digest()
    assert bool(head.any())


def test_moments_are_those_of_real_tokens_over_all_batches(lm: LM) -> None:
    maps = linears(lm.model, [1])
    caught: list[torch.Tensor] = []
    handle = maps[0].module.register_forward_pre_hook(lambda _m, x: caught.append(x[0]))
    inputs = _inputs(lm)
    lm.model(**inputs)
    handle.remove()
    with moments(lm.model, maps) as seen:
        for _ in range(2):
            for part in unpadded(inputs):
                lm.model(**part)
    rows = caught[0][inputs["attention_mask"].bool()]
    assert_close(seen.sums[maps[0].path], 2 * rows.T @ rows)
    assert set(seen.sums) == seen.seen == {linear.path for linear in maps}
    hooks = [h for m in lm.model.modules() for h in m._forward_pre_hooks]
    assert not hooks
    assert isinstance(maps[0].module, nn.Linear)
