"""The estimate against counts made by hand, and against a model's own."""

from __future__ import annotations

import dataclasses
import json

import pytest

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.modelfolder import tensor_shapes
from titer.worlds.estimate import Work, estimate

WORK = Work(steps=10, batch_size=4, tokens_per_row=8)
SHAPES = {
    "model.embed_tokens.weight": (100, 16),
    "model.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.layers.0.mlp.up_proj.weight": (48, 16),
    "model.norm.weight": (16,),
}
CONFIG = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 100}
BLOCKS = 16 * 16 + 48 * 16


def test_full_training_costs_four_copies_and_six_operations_a_weight():
    needed = estimate(SHAPES, CONFIG, WORK, gflops=1.0)
    parameters = 1600 + BLOCKS + 16
    assert needed.parameters == needed.trained == parameters
    assert needed.weights + needed.gradients + needed.moments == 4 * 4 * parameters
    # The head is tied to the embedding, so its product counts.
    assert needed.flops == 6 * (BLOCKS + 1600) * 10 * 32
    assert needed.seconds == pytest.approx(needed.flops / 1e9)
    assert needed.logits == 3 * 4 * 100 * 32


def test_lora_holds_moments_of_the_adapter_only():
    needed = estimate(SHAPES, CONFIG, dataclasses.replace(WORK, trains="lora", rank=2))
    adapter = 2 * (16 + 16) + 2 * (48 + 16)
    assert needed.trained == adapter
    assert needed.moments == 2 * 4 * adapter
    assert needed.flops == (4 * (BLOCKS + 1600) + 6 * adapter) * 10 * 32
    assert needed.seconds is None


def test_a_head_of_its_own_makes_the_embedding_free():
    shapes = {**SHAPES, "lm_head.weight": (100, 16)}
    needed = estimate(shapes, {**CONFIG, "tie_word_embeddings": False}, WORK)
    assert needed.flops == 6 * (BLOCKS + 1600) * 10 * 32


def test_judging_alone_needs_no_gradients():
    work = Work(steps=0, batch_size=4, tokens_per_row=8, judged_rows=100)
    needed = estimate(SHAPES, CONFIG, work)
    assert needed.gradients == needed.moments == 0
    assert needed.flops == 2 * (BLOCKS + 1600) * 100 * 8


def test_a_reference_beside_the_model_is_counted():
    one = estimate(SHAPES, CONFIG, WORK)
    two = estimate(SHAPES, CONFIG, dataclasses.replace(WORK, copies=1))
    assert two.memory - one.memory == 4 * one.parameters


def test_a_config_under_other_names_is_read_and_a_bare_one_guessed():
    gpt2 = estimate(SHAPES, {"n_embd": 16, "n_layer": 1, "vocab_size": 100}, WORK)
    assert gpt2 == estimate(SHAPES, CONFIG, WORK)
    assert estimate(SHAPES, {}, WORK).memory > 0


@pytest.mark.parametrize(
    ("shapes", "work"),
    [({}, WORK), (SHAPES, dataclasses.replace(WORK, steps=-1)),
     (SHAPES, dataclasses.replace(WORK, rank=0))],
)  # fmt: skip
def test_what_cannot_be_is_refused(shapes, work):
    with pytest.raises(BadInput):
        estimate(shapes, CONFIG, work)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_matrices_agree_with_the_model_itself(architecture, tmp_path):
    lm = tiny_lm(architecture)
    lm.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    needed = estimate(tensor_shapes(tmp_path), config, WORK)
    assert needed.flops == 6 * lm.parameters_in_matmuls() * 10 * 32
    assert needed.parameters == lm.model.num_parameters()
