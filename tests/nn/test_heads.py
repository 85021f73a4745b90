"""Heads: found where they are, changed inside a block only, and folded without a difference."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.heads import fold, heads, rescaled, shifted

IDS = torch.tensor([[5, 9, 12, 30, 7, 11]])


def _logits(lm: LM) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(IDS).logits


def _noise(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("architecture", "shape", "shared"),
    [("llama", (4, 4, 6), 1), ("gpt2", (4, 4, 5), 1), ("qwen2", (4, 4, 6), 2)],
)
def test_heads_are_found(architecture, shape, shared) -> None:
    found = heads(tiny_lm(architecture))
    assert (found.shape, found.shared) == (shape, shared)
    assert found.slots == (shape[0], shape[1] // shared, shape[2])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_folded_is_what_was_hooked(architecture, tmp_path) -> None:
    lm = tiny_lm(architecture)
    found, plain = heads(lm), _logits(lm)
    shift = _noise(found.slots)
    with shifted(found, shift):
        hooked = _logits(lm)
    assert_close(_logits(lm), plain, rtol=0, atol=0)
    assert float((hooked - plain).abs().max()) > 1e-2
    fold(lm, found, shift)
    assert_close(_logits(lm), hooked, rtol=1e-4, atol=1e-5)
    lm.save(tmp_path)
    again = LM.load(tmp_path)
    assert again.digest() == lm.digest()
    assert_close(_logits(again), hooked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folding_nothing_changes_nothing_that_is_said(architecture) -> None:
    lm = tiny_lm(architecture)
    found, plain = heads(lm), _logits(lm)
    fold(lm, found, torch.zeros(found.slots))
    assert_close(_logits(lm), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_scaled_to_nothing_is_a_head_cut_off(architecture) -> None:
    """The same as zeroing what the output projection reads from it."""
    lm = tiny_lm(architecture)
    found, cut = heads(lm), lm.clone()
    scale = torch.zeros(found.shape)
    scale[2, 1] = -1.0
    with rescaled(found, scale):
        got = _logits(lm)
    part, width = heads(cut).out[2], found.shape[2]
    weight = part.weight
    with torch.no_grad():
        if architecture == "gpt2":  # keeps (in, out)
            weight[width : 2 * width] = 0.0
        else:
            weight[:, width : 2 * width] = 0.0
    assert_close(got, _logits(cut), rtol=1e-5, atol=1e-6)


def test_heads_that_share_values_share_their_shift() -> None:
    found = heads(tiny_lm("qwen2"))
    rows = found.spread(_noise(found.slots))
    assert_close(rows[:, 0], rows[:, 1])
    assert_close(rows[:, 2], rows[:, 3])
    assert not torch.equal(rows[:, 1], rows[:, 2])


def test_attention_of_no_known_form_is_said() -> None:
    lm = tiny_lm()
    for block in lm.model.model.layers:
        block.self_attn.outwards = block.self_attn.o_proj
        del block.self_attn.o_proj
    with pytest.raises(BadInput, match="no output projection"):
        heads(lm)
