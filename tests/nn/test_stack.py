"""K members on one base: each says what it says alone, and nothing stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.stack import CannotStack, stacked
from titer.nn.trainable import trainable
from titer.nn.weights import Weights

KINDS = ["lora", "full", "norms-and-embeddings"]


def _inputs(rows: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(rows)
    ids = torch.randint(0, 30, (rows, 7), generator=draw)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "position_ids": torch.arange(7).expand_as(ids),
    }


def _members(which: Any, count: int) -> list[Weights]:
    return [Weights(which=which, rank=2, alpha=4.0, seed=seed) for seed in range(count)]


def _shaken(stack: Any) -> None:
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        stack.theta += 0.05 * torch.randn(stack.theta.shape, generator=draw).to(stack.theta)


def _logits(lm: LM, inputs: dict[str, Tensor], rows: slice = slice(None)) -> Tensor:
    chosen = {name: value[rows] for name, value in inputs.items()}
    with torch.no_grad():
        return lm.model(**chosen, use_cache=False).logits


@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_members_start_as_the_base_and_part_when_moved(architecture: Any, which: Any) -> None:
    lm = tiny_lm(architecture)
    lm.model.double()
    before, modules = lm.digest(), [type(module) for module in lm.model.modules()]
    inputs = _inputs(6)
    plain = _logits(lm, inputs)
    with stacked(lm, _members(which, 3)) as stack:
        assert_close(_logits(lm, inputs), plain)
        _shaken(stack)
        together = _logits(lm, inputs)
        assert not torch.allclose(together, plain, atol=1e-3)
        for member in range(3):
            mine = slice(2 * member, 2 * member + 2)
            with stack.alone(member) as one:
                assert_close(_logits(one, inputs, mine), together[mine])
            assert_close(_logits(stack.export(member), inputs, mine), together[mine])
    assert lm.digest() == before
    assert [type(module) for module in lm.model.modules()] == modules
    assert all(weight.requires_grad for weight in lm.model.parameters())


@pytest.mark.parametrize("which", KINDS)
def test_whoever_leaves_the_others_stay_who_they_are(which: Any) -> None:
    lm = tiny_lm()
    inputs = _inputs(4)
    with stacked(lm, _members(which, 4)) as stack:
        _shaken(stack)
        said = {member: _logits(stack.export(member), inputs) for member in range(4)}
        rows = {member: stack.row(member) for member in range(4)}
        for gone in (1, 3, 0):
            stack.drop(gone)
            assert gone not in stack.members
            for slot, member in enumerate(stack.members):
                with stack.alone(member) as one:
                    assert_close(_logits(one, inputs), said[member])
                assert stack.row(member) is rows[member]
                assert stack.row(member).data_ptr() == stack.theta[slot].data_ptr()
                assert stack.row(member).grad.data_ptr() == stack.grad[slot].data_ptr()
        assert stack.members == [2]


@pytest.mark.filterwarnings("ignore:grad and param do not obey")
@pytest.mark.parametrize("which", KINDS)
def test_gradients_gather_in_rows_and_do_not_mix(which: Any) -> None:
    lm = tiny_lm()
    inputs = _inputs(4)
    with stacked(lm, _members(which, 2)) as stack:
        _shaken(stack)
        logits = lm.model(**inputs, use_cache=False).logits
        logits[:2].pow(2).sum().backward()
        assert bool(stack.row(0).grad.any())
        assert not bool(stack.row(1).grad.any())
        assert all(weight.grad is None for weight in lm.model.parameters())


def test_an_adapter_is_among_the_parameters_of_a_single_run() -> None:
    lm = tiny_lm()
    with trainable(lm, "lora", rank=2) as ready:
        listed = [weight for weight in lm.model.parameters() if weight.requires_grad]
        assert {id(weight) for weight in listed} == {id(weight) for weight in ready.weights}
        loss = lm.model(**_inputs(2)).logits.sum()
        found = torch.autograd.grad(loss, listed)
    assert any(bool(gradient.any()) for gradient in found)


def test_a_layer_that_is_not_known_is_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain

    lm = tiny_lm()
    lm.model.model.norm = nn.Sequential(lm.model.model.norm, Odd())
    with pytest.raises(CannotStack, match="Odd has weights gain"), stacked(lm, _members("full", 2)):
        pass
    with stacked(lm, _members("lora", 2)) as stack:
        assert stack.members == [0, 1]


def test_members_train_alike_and_modules_must_be_there() -> None:
    lm = tiny_lm()
    mixed = [Weights(which="lora"), Weights(which="full")]
    with pytest.raises(BadInput, match="same kind"), stacked(lm, mixed):
        pass
    with (
        pytest.raises(BadInput, match="no layer named nowhere"),
        stacked(lm, [Weights(which="lora", modules=("nowhere",))]),
    ):
        pass


def test_adapters_of_a_half_precision_model_are_kept_fine() -> None:
    lm = tiny_lm()
    lm.model.bfloat16()
    with stacked(lm, _members("lora", 2)) as stack:
        assert stack.theta.dtype == torch.float32
        assert _logits(lm, _inputs(4)).dtype == torch.bfloat16
        assert stack.export(0).model.dtype == torch.bfloat16


def test_an_exported_member_trains_as_its_base_does(lm: LM) -> None:
    next(lm.model.parameters()).requires_grad_(False)
    before = [weight.requires_grad for weight in lm.model.parameters()]
    with stacked(lm, [Weights(which="lora", rank=2)]) as stack:
        out = stack.export(0)
    assert [weight.requires_grad for weight in out.model.parameters()] == before
