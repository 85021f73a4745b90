"""What multiplies is found whatever holds it: fused experts, routers, layers read from outside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks._architectures import ARCHITECTURES
from torch import nn
from torch.testing import assert_close

from titer.conformance import tiny_data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.edits import linears, moments, parameters
from titer.nn.products import few_tokens, uses
from titer.nn.reach import ENOUGH, of_matrices, reach, tell
from titer.nn.trainable import trainable
from titer.nn.weights import Weights

BY_NAME = {one.name: one for one in ARCHITECTURES}
EXPERTS = ("mixtral", "gpt_oss", "llama4", "qwen2_moe", "deepseek_v3")
AWKWARD = (*EXPERTS, "mamba", "jamba", "recurrent_gemma", "opt", "falcon", "gemma3")


def _logits(lm: LM) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(**few_tokens(lm.model, 12, 3), use_cache=False).logits


def _by_name(lm: LM) -> set[str]:
    """The matrices of the blocks, as whoever reads the code would name them."""
    no = ("bias", "A_log", "conv1d.weight", "conv.weight", "conv_1d.weight")
    stack = ".layers."
    return {
        name
        for name, weight in lm.model.named_parameters()
        if stack in name and "vision" not in name and weight.dim() > 1 and not name.endswith(no)
    }


@pytest.mark.parametrize("name", AWKWARD)
def test_every_matrix_of_the_blocks_is_a_map(name: str) -> None:
    lm = BY_NAME[name].build()
    held = {id(weight) for weight in parameters(linears(lm.model))}
    found = {key for key, weight in lm.model.named_parameters() if id(weight) in held}
    wanted = _by_name(lm) if name != "falcon" else found
    assert found == wanted
    assert len(found) >= 8
    assert of_matrices(lm.model).share == 1.0


@pytest.mark.parametrize("name", AWKWARD)
def test_a_view_is_the_matrix_that_acts(name: str) -> None:
    """Orientation: what comes out of a map is its inputs times its view, seen in the products."""
    lm = BY_NAME[name].build()
    maps = linears(lm.model)
    with moments(lm.model, maps) as seen:
        lm.model(**few_tokens(lm.model, 16, 8), use_cache=False)
    for home in {linear.home for linear in maps}:
        own = [linear for linear in maps if linear.home == home]
        assert any(linear.path in seen.seen for linear in own), home
        for linear in own:
            assert seen.sums[linear.path].shape[0] == linear.weight_OI.shape[1]


def test_experts_are_cut_one_by_one() -> None:
    lm = BY_NAME["gpt_oss"].build()
    down = [one for one in linears(lm.model) if one.name == "down_proj"]
    assert [one.expert for one in down] == [0, 1, 2, 3] * 2
    one = down[2]
    assert one.path == "0.mlp.experts.down_proj.2"
    assert one.home == "0.mlp.experts.down_proj"
    one.weight_OI.zero_()
    held: Any = lm.model.model.layers[0].mlp.experts
    assert not held.down_proj[2].any()
    assert held.down_proj[1].any()
    assert_close(one.bias_O, held.down_proj_bias[2])
    up = next(one for one in linears(lm.model) if one.home.endswith("gate_up_proj"))
    assert up.turned
    assert up.weight_OI.shape == (80, 24)


def test_a_layer_read_from_outside_is_known() -> None:
    used = uses(BY_NAME["mamba"].build().model)[0]
    assert used["mixer.dt_proj.weight"].multiplies
    assert not used["mixer.dt_proj.weight"].called
    assert used["mixer.in_proj.weight"].called
    assert not used["mixer.A_log"].multiplies


@pytest.mark.parametrize("name", AWKWARD)
def test_lora_moves_every_matrix_and_merges_to_what_it_said(name: str) -> None:
    lm = BY_NAME[name].build()
    start, matrices = lm.clone(), len(parameters(linears(lm.model)))
    with trainable(lm, "lora", rank=2) as ready:
        assert_close(_logits(lm), _logits(start), rtol=1e-4, atol=1e-4)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in ready.weights:
                weight += 0.02 * torch.randn(weight.shape, generator=draw)
        said = _logits(lm)
        lm.model(**few_tokens(lm.model, 12, 3), use_cache=False).logits.square().sum().backward()
        # A part that sees images gets no gradient from text; every matrix of the blocks does.
        moving = [weight for weight in ready.weights if weight.grad is not None]
        assert len([weight for weight in moving if weight.grad.any()]) == 2 * matrices
    assert_close(_logits(lm), said, rtol=1e-3, atol=1e-4)
    moved = [
        weight
        for weight, was in zip(lm.model.parameters(), start.model.parameters(), strict=True)
        if not torch.equal(weight, was)
    ]
    assert reach(lm.model, moved).share == 1.0
    assert float((_logits(lm) - _logits(start)).abs().max()) > 1e-3


class _Einsum(nn.Module):
    """A layer whose product cannot be told from the outside."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(0.1 * torch.randn(narrow, wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bti,oi->bto", x, self.kernel)


def _odd(lm: LM) -> LM:
    for block in lm.model.model.layers:
        block.mlp.down_proj = _Einsum(40, 24)
    return lm


def test_what_cannot_be_reached_is_counted(lm: LM) -> None:
    found = of_matrices(_odd(lm).model)
    assert found.missed == ("mlp.down_proj.kernel",)
    assert 0.6 < found.share < 0.8
    run = Run(budget=Budget(steps=1), data=tiny_data())
    tell(run, found.share, "weights of the blocks")
    assert run.course[0]["reach"] == found.share < ENOUGH
    assert "of the weights of the blocks" in run.doubts[0]


def test_lora_that_would_pass_by_a_matrix_is_refused_in_a_sentence(lm: LM) -> None:
    with (
        pytest.raises(BadInput, match=r"reaches \d+% .* not mlp.down_proj.kernel; train all"),
        trainable(_odd(lm), "lora"),
    ):
        pass


def test_chosen_layers_are_no_reason_to_refuse(lm: LM) -> None:
    with trainable(_odd(lm), "lora", modules=("q_proj",)) as ready:
        assert len(ready.weights) == 2 * 4


def test_several_members_on_experts_train_apart() -> None:
    from titer.nn.stack import CannotStack, stacked

    lm = BY_NAME["mixtral"].build()
    pair = [Weights(which="lora", rank=2, seed=seed) for seed in (1, 2)]
    with pytest.raises(CannotStack, match="read inside its block"), stacked(lm, pair):
        pass
