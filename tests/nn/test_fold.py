"""Folding keeps the function, whatever scales were put in, and gives one form."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, Architecture, tiny_lm
from titer.core.lm import LM
from titer.nn.fold import fold
from titer.nn.reparametrise import heads, layout, rescale_norms, shuffle_hidden

IDS = torch.arange(24).view(2, 12)


def _scrambled(architecture: Architecture) -> LM:
    """Norms away from 1 and biases away from 0, as in no fresh model."""
    lm = tiny_lm(architecture)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in lm.model.parameters():
            if weight.dim() == 1:
                weight += 0.3 * torch.randn(weight.shape, generator=draw)
    return LM(lm.model.double(), lm.tokenizer)


@torch.no_grad()
def _logits(lm: LM) -> torch.Tensor:
    return lm.model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_function_is_kept(architecture: Architecture) -> None:
    lm = _scrambled(architecture)
    before, weights = _logits(lm), lm.digest()
    fold(lm)
    assert lm.digest() != weights
    assert_close(_logits(lm), before, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scales_are_balanced(architecture: Architecture) -> None:
    """Worked out apart: both factors of a head have the same Gram matrix, which is diagonal."""
    lm = _scrambled(architecture)
    fold(lm)
    for head in heads(lm):
        mixed = torch.cat(head.mixed)
        values = head.values
        if head.bias is not None:
            values = torch.cat([values, head.bias[:, None]], 1)
        assert_close(mixed.T @ mixed, values @ values.T, rtol=1e-8, atol=1e-10)
        gram = mixed.T @ mixed
        assert_close(gram, torch.diag(gram.diagonal()), rtol=1e-8, atol=1e-10)
    names = layout(lm)
    if len(names.up) > 1:
        for block in lm.model.model.layers:
            out = block.get_submodule(names.down).weight.norm(dim=0)
            assert_close(out, block.get_submodule(names.up[1]).weight.norm(dim=1))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_scaled_model_and_its_original_fold_to_the_same(architecture: Architecture) -> None:
    lm = _scrambled(architecture)
    scaled = lm.clone()
    draw = torch.Generator().manual_seed(0)
    rescale_norms(scaled, draw, spread=2.0)
    if architecture == "llama":  # the order of hidden units is no scale
        order = torch.Generator().manual_seed(0)
        shuffle_hidden(scaled, order, spread=2.0)
    fold(lm)
    fold(scaled)
    for name, ours in lm.model.named_parameters():
        theirs = scaled.model.get_parameter(name)
        if "mlp" in name and architecture == "llama":
            ours, theirs = (
                one.norm(dim=0 if "down" in name else 1).sort().values for one in (ours, theirs)
            )
        # A singular vector and its negative are equally good.
        assert_close(ours.abs(), theirs.abs(), rtol=1e-6, atol=1e-8)


def test_a_silent_unit_stays_silent() -> None:
    lm = tiny_lm()
    with torch.no_grad():
        lm.model.model.layers[0].mlp.down_proj.weight[:, 3] = 0
    before = _logits(lm)
    fold(lm)
    assert all(bool(weight.isfinite().all()) for weight in lm.model.parameters())
    assert_close(_logits(lm), before, rtol=1e-4, atol=1e-6)
