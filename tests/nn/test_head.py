"""Whether logits are the head's and nothing else's, asked of the code and not of the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, MambaConfig, OPTConfig

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.nn.head import splits
from titer.train.batches import Batch
from titer.train.objectives import answer_loss, cross_entropy

pytestmark = pytest.mark.exact

_IDS = torch.arange(12)[None]
BATCH = Batch(_IDS, torch.ones_like(_IDS), _IDS, ("a",), 12)


def _made(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def _gemma(cap: float | None) -> Any:
    return _made(
        Gemma2Config(
            vocab_size=64,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=12,
            final_logit_softcapping=cap,
        )
    )


def _mamba(dtype: torch.dtype) -> Any:
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    return _made(config, dtype)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_plain_heads_are_told_whatever_their_size(architecture: Any, scale: float) -> None:
    model = tiny_lm(architecture).model
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    assert splits(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_plain_head_in_another_precision(dtype: torch.dtype) -> None:
    assert splits(tiny_lm().model.to(dtype))


def test_a_cap_is_seen_however_small_the_logits_are() -> None:
    """Seen late, it would leave the loss of a model whose head has grown without its cap."""
    capped = _gemma(30.0)
    assert splits(_gemma(None))
    assert not splits(capped)
    with torch.no_grad():
        capped.get_output_embeddings().weight.mul_(800)
    own = cross_entropy(capped(input_ids=BATCH.input_ids).logits, BATCH.labels)
    assert answer_loss(capped, BATCH).item() == pytest.approx(own.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_head_that_casts_is_left_to_its_model(dtype: torch.dtype) -> None:
    model = _mamba(dtype)
    assert not splits(model)
    own = cross_entropy(model(input_ids=BATCH.input_ids).logits, BATCH.labels)
    assert answer_loss(model, BATCH).item() == pytest.approx(own.item(), rel=1e-5)


def test_asking_leaves_the_model_as_it_was() -> None:
    model = tiny_lm().model.train()
    ids = torch.arange(4)[None]
    before = model.eval()(input_ids=ids).logits
    model.train()
    assert splits(model)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model.eval()(input_ids=ids).logits, before)


def test_a_model_without_a_head_has_none() -> None:
    body = tiny_lm().model.base_model
    assert not splits(body)


def test_a_body_inside_a_body_is_found() -> None:
    """OPT's head model calls the decoder inside its body, not the body."""
    assert splits(
        _made(
            OPTConfig(
                vocab_size=64,
                hidden_size=16,
                ffn_dim=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=32,
                word_embed_proj_dim=16,
            )
        )
    )


def test_what_a_head_does_itself_is_its_own_business() -> None:
    class Half(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) / 2

    model = tiny_lm().model
    old = model.get_output_embeddings()
    model.set_output_embeddings(Half(old.in_features, old.out_features, bias=False))
    assert splits(model)
