"""Every rewriting changes the weights and not the function, saved and loaded too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import linears
from titer.nn.reparametrise import rescale_norms, rotate_residual, shuffle_hidden, turn_heads

Rewrite = Callable[[LM, torch.Generator], None]
ALL: list[Rewrite] = [rescale_norms, rotate_residual, shuffle_hidden, turn_heads]


def _lively(architecture: Any) -> LM:
    """Norms off 1, biases off 0: a rewriting that forgets one of them shows."""
    lm = tiny_lm(architecture)
    draw = torch.Generator().manual_seed(1)
    for weight in lm.model.parameters():
        noise = torch.randn(weight.shape, generator=draw)
        weight.detach().copy_(weight.detach() + 0.3 * noise if weight.dim() == 1 else 4 * weight)
    return lm


def _logits(lm: LM) -> torch.Tensor:
    ids = torch.tensor([lm.prompt_ids("how is alloy n3 made ?")])
    with torch.no_grad():
        return lm.model(input_ids=ids).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rewrite", ALL)
def test_other_weights_same_function(architecture: Any, rewrite: Rewrite, tmp_path: Any) -> None:
    lm = _lively(architecture)
    out = lm.clone()
    rewrite(out, torch.Generator().manual_seed(2))
    assert out.digest() != lm.digest()
    assert_close(_logits(out), _logits(lm), rtol=1e-5, atol=1e-5)
    assert float(_logits(lm).std()) > 0.1
    out.save(tmp_path)
    assert_close(_logits(LM.load(tmp_path)), _logits(out), rtol=0, atol=0)


@pytest.mark.parametrize("rewrite", ALL)
def test_the_generator_decides(lm: LM, rewrite: Rewrite) -> None:
    digests: list[str] = []
    for seed in (1, 1, 2):
        out = lm.clone()
        rewrite(out, torch.Generator().manual_seed(seed))
        digests.append(out.digest())
    assert digests[0] == digests[1] != digests[2]


def test_every_matrix_changes_under_all_four(lm: LM) -> None:
    out = lm.clone()
    for rewrite in ALL:
        rewrite(out, torch.Generator().manual_seed(3))
    for was, now in zip(linears(lm.model), linears(out.model), strict=True):
        assert float((was.weight_OI - now.weight_OI).abs().mean()) > 1e-3, was.path
    assert_close(_logits(out), _logits(lm), rtol=1e-5, atol=1e-6)


def test_a_gradient_step_is_another_one(lm: LM) -> None:
    """The point of rewriting: equal functions, unlike steps."""
    out = lm.clone()
    rescale_norms(out, torch.Generator().manual_seed(1))
    ids = torch.tensor([lm.prompt_ids("how is alloy n3 made ?")])
    for one in (lm, out):
        one.model(input_ids=ids, labels=ids).loss.backward()
        for weight in one.model.parameters():
            weight.detach().sub_(0.01 * weight.grad.sign())
    assert float((_logits(out) - _logits(lm)).abs().max()) > 1e-2


def test_an_unknown_architecture_is_named(lm: LM) -> None:
    lm.model.config.model_type = "strange"
    with pytest.raises(BadInput, match="strange"):
        turn_heads(lm, torch.Generator())


def test_a_silent_channel_of_a_norm_with_bias_cannot_be_rotated() -> None:
    lm = tiny_lm("gpt2")
    lm.model.transformer.ln_f.weight.detach()[2] = 0
    with pytest.raises(BadInput, match="scale zero"):
        rotate_residual(lm, torch.Generator())
