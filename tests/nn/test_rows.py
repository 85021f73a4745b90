"""Which models let sequences share a row, and that training believes it."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from titer.attacks.finetune import Finetune
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Data
from titer.core.lm import LM, quiet
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.rows import reach, shares_rows
from titer.train.batches import Drawn, collate, cycle, draw, pack
from titer.train.objectives import answer_loss, answer_losses

SMALL: dict[str, Any] = {"hidden_size": 16, "pad_token_id": 0, "eos_token_id": 1}


def _other(build: Any) -> LM:
    tokenizer = tiny_lm().tokenizer
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        model = build(vocab_size=len(tokenizer), **SMALL)
    return LM(model.eval(), tokenizer, "other")


def blooming() -> LM:
    """Position biases that are worked out from the mask (ALiBi)."""
    return _other(lambda **shape: hf.BloomForCausalLM(hf.BloomConfig(n_layer=2, n_head=2, **shape)))


def recurrent() -> LM:
    """A state that runs along the row, whatever the mask says."""
    return _other(
        lambda **shape: hf.MambaForCausalLM(
            hf.MambaConfig(num_hidden_layers=2, state_size=4, **shape)
        )
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stock_transformers_share_rows(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    lm.model.train()
    assert shares_rows(lm.model)
    assert lm.model.training


def test_how_far_a_row_is_right() -> None:
    assert reach(tiny_lm().model.config) == float("inf")
    assert reach(hf.MistralConfig(sliding_window=32)) == 32
    assert reach(hf.Qwen2Config(use_sliding_window=False)) == float("inf")
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 128}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config = hf.LlamaConfig(hidden_size=16, num_attention_heads=2, rope_parameters=rope)
    assert reach(config) == 128


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [blooming, recurrent])
def test_a_model_that_shares_no_rows_trains_on_a_row_a_sequence(build: Any, data: Data) -> None:
    lm = build()
    assert not shares_rows(lm.model)
    examples, size = data.harmful, len(data.harmful)
    drawn = next(draw(lm, examples, batch_size=size, rng=random.Random(0)))
    padded = collate(drawn.rows, lm.tokenizer.pad_token_id, lm.device)
    packed = next(cycle(lm, examples, batch_size=size, rng=random.Random(0), packed=True))
    assert packed.input_ids.shape == padded.input_ids.shape
    torch.testing.assert_close(answer_loss(lm.model, packed), answer_loss(lm.model, padded))
    run = Run(budget=Budget(steps=2), data=data, seed=0)
    out = Finetune(lr=1e-2, batch_size=size)(lm, run)
    assert run.losses[1] < run.losses[0]
    assert out.digest() != lm.digest()


@pytest.mark.filterwarnings("ignore")
def test_groups_of_unlike_size_have_their_own_losses_in_padded_rows(data: Data) -> None:
    lm = recurrent()
    rows = islice(draw(lm, data.harmful, batch_size=1, rng=random.Random(0)), 5)
    one, *others = (step.rows[0] for step in rows)
    groups = [Drawn((one,)), Drawn(tuple(others))]
    with torch.no_grad():
        wanted = [answer_losses(lm.model, pack(lm, [group]))[0] for group in groups]
        batch = pack(lm, groups)
        found = answer_losses(lm.model, batch, 2)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-4, atol=1e-5)
    assert batch.tokens == sum(group.tokens for group in groups)
    assert len(batch.ids) == 5


def test_what_is_longer_than_a_window_shares_no_row(data: Data) -> None:
    shape = {"intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    lm = _other(
        lambda **rest: hf.MistralForCausalLM(
            hf.MistralConfig(sliding_window=5, num_key_value_heads=2, **shape, **rest)
        )
    )
    batch = next(cycle(lm, data.harmful, batch_size=6, rng=random.Random(0), packed=True))
    assert len(batch.input_ids) == 6


def test_a_broken_model_is_asked_again_later() -> None:
    lm = tiny_lm()
    weight: nn.Parameter = next(lm.model.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    assert not shares_rows(lm.model)
    with torch.no_grad():
        weight.copy_(kept)
    assert shares_rows(lm.model)
