"""Which weights move, what a token costs, and that nothing stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.trainable import named_matrices, trainable
from titer.train.batches import collate, encode_all


def _logits(lm: LM) -> torch.Tensor:
    batch = collate(encode_all(lm, tiny_data().harmful), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return lm.model(**batch.inputs()).logits * batch.attention_mask[..., None]


def _shake(weights: list[torch.nn.Parameter]) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in weights:
            weight += 0.1 * torch.randn(weight.shape, generator=draw)


def _changed(before: LM, after: LM) -> set[str]:
    was, now = before.model.state_dict(), after.model.state_dict()
    assert was.keys() == now.keys()
    return {key for key in was if not torch.equal(was[key], now[key])}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_full_moves_everything(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    out = lm.clone()
    with trainable(out, "full") as ready:
        assert all(weight.requires_grad for weight in ready.weights)
        assert ready.flops_per_token == 6.0 * lm.parameters_in_matmuls()
        _shake(ready.weights)
    assert _changed(lm, out) == set(lm.model.state_dict())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_moves_every_linear_layer_but_the_head(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    out = lm.clone()
    with trainable(out, "lora", rank=2) as ready:
        extra = sum(weight.numel() for weight in ready.weights)
        assert ready.flops_per_token == 4.0 * lm.parameters_in_matmuls() + 6.0 * extra
        _shake(ready.weights)
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    wanted = ("c_attn", "c_proj", "c_fc") if architecture == "gpt2" else linear
    changed = _changed(lm, out)
    assert len(changed) == 4 * (4 if architecture == "gpt2" else 7)
    assert all(key.endswith(tuple(f"{name}.weight" for name in wanted)) for key in changed)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_merged_adapter_is_the_model_that_was_trained(architecture: Any) -> None:
    out = tiny_lm(architecture)
    before = _logits(out)
    with trainable(out, "lora", rank=3, alpha=1.5) as ready:
        _shake(ready.weights)
        ready.lm.model.eval()
        adapted = _logits(ready.lm)
    assert_close(_logits(out), adapted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(adapted, before, atol=1e-3)


def test_alpha_scales_and_is_not_cut_to_an_integer(lm: LM) -> None:
    def shift(alpha: float) -> torch.Tensor:
        out = lm.clone()
        with trainable(out, "lora", rank=4, alpha=alpha, seed=1) as ready:
            _shake(ready.weights)
        key = "model.layers.0.mlp.up_proj.weight"
        return out.model.state_dict()[key] - lm.model.state_dict()[key]

    assert float(shift(0.5).abs().max()) > 0
    assert_close(shift(1.5), 3 * shift(0.5), rtol=1e-3, atol=1e-6)
    assert_close(shift(8.0), 16 * shift(0.5), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_adapter_changes_no_bit(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    out = lm.clone()
    with trainable(out, "lora"):
        pass
    assert out.digest() == lm.digest()


def test_the_seed_draws_the_adapter(lm: LM) -> None:
    def drawn(seed: int) -> list[float]:
        with trainable(lm.clone(), "lora", seed=seed) as ready:
            return [float(weight.detach().sum()) for weight in ready.weights]

    state = torch.get_rng_state()
    assert drawn(1) == drawn(1) != drawn(2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_norms_and_embeddings_leave_the_matrices(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    out = lm.clone()
    head = lm.model.get_output_embeddings().weight
    tied = lm.model.get_input_embeddings().weight is head
    with trainable(out, "norms-and-embeddings") as ready:
        # Of the weights in matrix products only a tied head trains.
        moved = head.numel() if tied else 0
        assert ready.flops_per_token == 4.0 * lm.parameters_in_matmuls() + 2.0 * moved
        _shake(ready.weights)
    changed = _changed(lm, out)
    matrices = {
        key
        for key in lm.model.state_dict()
        if key.endswith(("proj.weight", "c_attn.weight", "c_fc.weight"))
    }
    still = matrices if tied else matrices | {"lm_head.weight"}
    assert changed == set(lm.model.state_dict()) - still


@pytest.mark.parametrize("which", ["full", "lora", "norms-and-embeddings"])
@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_model_is_an_ordinary_one(lm: LM, which: Any, fails: bool) -> None:
    frozen = lm.model.model.embed_tokens.weight
    frozen.requires_grad_(False)
    attributes = set(lm.model.__dict__)
    modules = [type(module) for module in lm.model.modules()]
    config, digest = lm.model.config.to_dict(), lm.digest()
    try:
        with trainable(lm, which) as ready:
            sum(weight.sum() for weight in ready.weights).backward()
            if fails:
                raise RuntimeError("deliberate")
    except RuntimeError:
        assert fails
    assert [type(module) for module in lm.model.modules()] == modules
    assert set(lm.model.__dict__) == attributes
    assert lm.model.config.to_dict() == config
    assert lm.digest() == digest
    assert not frozen.requires_grad
    assert all(w.requires_grad for w in lm.model.parameters() if w is not frozen)
    assert all(weight.grad is None for weight in lm.model.parameters())


def test_an_adapter_that_fails_is_taken_off_unmerged(lm: LM) -> None:
    before = lm.digest()

    def fails() -> None:
        with trainable(lm, "lora") as ready:
            _shake(ready.weights)
            raise RuntimeError("deliberate")

    with pytest.raises(RuntimeError, match="deliberate"):
        fails()
    assert lm.digest() == before


@pytest.mark.parametrize("which", ["full", "lora"])
def test_named_modules_alone_move(lm: LM, which: Any) -> None:
    out = lm.clone()
    with trainable(out, which, modules=("1.mlp.down_proj", "2.mlp.down_proj")) as ready:
        _shake(ready.weights)
    assert _changed(lm, out) == {f"model.layers.{n}.mlp.down_proj.weight" for n in (1, 2)}


def test_matrices_are_found_by_whole_components(lm: LM) -> None:
    names = [name for name, _ in named_matrices(lm, ("mlp.down_proj", "o_proj"), layers=(0, 3))]
    assert names == [
        "0.self_attn.o_proj",
        "0.mlp.down_proj",
        "3.self_attn.o_proj",
        "3.mlp.down_proj",
    ]
    with pytest.raises(BadInput, match=r"each block has .*mlp\.down_proj"):
        named_matrices(lm, ("proj",))
    with pytest.raises(BadInput, match="in blocks 9"):
        named_matrices(lm, ("mlp.down_proj",), layers=(9,))


def test_modules_that_match_nothing_are_refused(lm: LM) -> None:
    for which in ("full", "lora"):
        with pytest.raises(BadInput, match="c_proj"), trainable(lm, which, modules=("c_proj",)):
            pass
