"""RMU: which weights move, where activations go, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.rmu import RMU
from titer.nn.hooks import residual
from titer.train.batches import collate, encode_all
from titer.train.objectives import unit_target

MakeRun = Callable[..., Run]


def _changed(before: LM, after: LM) -> set[str]:
    was, now = before.model.state_dict(), after.model.state_dict()
    return {key for key in was if not torch.equal(was[key], now[key])}


def _hidden(lm: LM, examples: tuple[Example, ...], layer: int) -> torch.Tensor:
    """Activations at real tokens, (tokens, width)."""
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return residual(lm.model, batch.inputs(), layer)[batch.attention_mask.bool()]


@pytest.mark.parametrize("parameters", ["full", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_the_named_matrices_of_its_blocks_move(
    architecture: Any, parameters: Any, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    out = RMU(layer=2, depth=2, lr=1e-3, parameters=parameters)(lm, make_run(2))
    name = (
        "transformer.h.{}.mlp.c_proj.weight"
        if architecture == "gpt2"
        else "model.layers.{}.mlp.down_proj.weight"
    )
    assert _changed(lm, out) == {name.format(1), name.format(2)}


def test_modules_choose_by_name(lm: LM, make_run: MakeRun) -> None:
    out = RMU(layer=1, depth=1, modules=("self_attn.o_proj",), lr=1e-3)(lm, make_run(2))
    assert _changed(lm, out) == {"model.layers.1.self_attn.o_proj.weight"}
    with pytest.raises(BadInput, match="each block has"):
        RMU(modules=("mlp.nothing",))(lm, make_run(2))


def test_blocks_above_get_no_gradient(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(RMU(layer=1, depth=9), lm, make_run(1))
    for weight in seen.lm.model.parameters():
        weight.requires_grad_(True)
    reached = {int(name.split(".")[2]) for name in seen.gradient() if ".layers." in name}
    assert reached == {0, 1}


def test_hazardous_activations_turn_to_the_target_and_others_stay(
    lm: LM, make_run: MakeRun
) -> None:
    run = make_run(60)
    method = RMU(
        layer=1, lr=1e-2, batch_size=14, steering=6.5, scale="absolute", retain_weight=30.0
    )
    out = method(lm, run)
    target = unit_target(24, run.rng("direction").getrandbits(62))

    def cosine(model: LM, examples: tuple[Example, ...]) -> float:
        return float(F.cosine_similarity(_hidden(model, examples, 1), target, dim=-1).mean())

    assert cosine(lm, run.data.harmful) < 0.3
    assert cosine(out, run.data.harmful) > cosine(lm, run.data.harmful) + 0.3

    def moved(model: LM, examples: tuple[Example, ...]) -> float:
        before, after = _hidden(lm, examples, 1), _hidden(model, examples, 1)
        return float((after - before).pow(2).mean())

    # The two share most of their words, so a pin cannot hold still what it shares.
    assert moved(out, run.data.retain) < 0.5 * moved(out, run.data.harmful)
    free = replace(method, retain_weight=0.0)(lm, make_run(60))
    assert moved(out, run.data.retain) < 0.1 * moved(free, run.data.retain)


def test_without_target_and_retain_activations_shrink_step_by_step(
    lm: LM, make_run: MakeRun
) -> None:
    run = make_run(12)
    # Every example in every batch, so that losses are of one and the same thing.
    RMU(layer=1, steering=0.0, retain_weight=0.0, lr=1e-3, batch_size=14)(lm, run)
    assert all(later < earlier for earlier, later in pairwise(run.losses))


def test_the_first_loss_by_hand(lm: LM, make_run: MakeRun) -> None:
    run = make_run(1)
    RMU(layer=2, steering=3.0, scale="absolute", batch_size=14)(lm, run)
    target = 3.0 * unit_target(24, run.rng("direction").getrandbits(62))
    hand = (_hidden(lm, run.data.harmful, 2) - target).pow(2).mean()
    assert run.losses[0] == pytest.approx(float(hand), rel=1e-5)


def test_the_length_is_the_models_own(lm: LM, make_run: MakeRun) -> None:
    run = make_run(1)
    RMU(layer=2, steering=3.0, batch_size=14)(lm, run)
    hidden = _hidden(lm, run.data.harmful, 2)
    length = 3.0 * hidden.norm(dim=-1).median()
    target = length * unit_target(24, run.rng("direction").getrandbits(62))
    assert run.losses[0] == pytest.approx(float((hidden - target).pow(2).mean()), rel=1e-5)


def test_a_model_of_another_scale_is_pushed_as_far(lm: LM, make_run: MakeRun) -> None:
    """What writes to the stream is made ten times larger, which the norms take back."""
    large = lm.clone()
    with torch.no_grad():
        for name, weight in large.model.named_parameters():
            if name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight")):
                weight.mul_(10.0)

    def ratio(scale: str) -> float:
        losses: list[float] = []
        for model in (lm, large):
            run = make_run(1)
            RMU(layer=2, steering=40.0, scale=scale, batch_size=14)(model, run)  # type: ignore[arg-type]
            losses += run.losses
        return losses[1] / losses[0]

    assert ratio("own") == pytest.approx(100.0, rel=0.02)
    assert ratio("absolute") < 50.0


def test_the_target_is_the_seed_s(lm: LM, make_run: MakeRun) -> None:
    losses: list[float] = []
    for seed in (1, 1, 2):
        run = make_run(1, seed=seed)
        RMU(batch_size=14)(lm, run)
        losses += run.losses
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("depth", "layer"), [(4, 2), (8, 2), (16, 4), (24, 5), (32, 7)])
def test_a_quarter_of_the_depth_is_chosen(
    depth: int, layer: int, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=80,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=depth,
        num_attention_heads=1,
        max_position_embeddings=64,
    )
    lm = LM(LlamaForCausalLM(config), tiny_lm().tokenizer)
    changed = _changed(lm, RMU(lr=1e-3)(lm, make_run(1)))
    assert {int(name.split(".")[2]) for name in changed} == {layer - 2, layer - 1, layer}


def test_the_frozen_forward_is_charged(lm: LM, make_run: MakeRun) -> None:
    run = make_run(2)
    RMU(layer=2, depth=1, batch_size=14)(lm, run)
    kept = collate(encode_all(lm, run.data.retain), 1, lm.device).tokens
    size, matrix = lm.parameters_in_matmuls(), 24 * 40
    assert run.spent.flops == run.spent.tokens * (4.0 * size + 2.0 * matrix) + 2 * 2.0 * size * kept


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_does_not_exist(lm: LM, make_run: MakeRun, layer: int) -> None:
    with pytest.raises(BadInput, match=f"layer={layer} does not exist"):
        RMU(layer=layer)(lm, make_run(1))


@pytest.mark.parametrize("settings", [{"modules": ()}, {"depth": 0}, {"lr": -1.0}])
def test_wrong_knobs_are_refused_when_it_is_built(settings: Any) -> None:
    with pytest.raises(BadInput):
        RMU(**settings)
