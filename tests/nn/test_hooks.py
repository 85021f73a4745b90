"""Reading activations: the right ones, at the right cost, with nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.hooks import blocks, residual, residual_after
from titer.nn.trainable import trainable


def _inputs(lm: LM) -> dict[str, torch.Tensor]:
    ids = torch.tensor([lm.prompt_ids("how is alloy n3 made ?")])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _hooks(lm: LM) -> int:
    found = [hook for module in lm.model.modules() for hook in module._forward_hooks.values()]
    # transformers leaves hooks of its own where hidden states were asked for.
    return sum(not hook.__module__.startswith("transformers.") for hook in found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 2])
def test_it_is_the_hidden_state_that_the_model_reports(architecture: Any, layer: int) -> None:
    lm = tiny_lm(architecture)
    with torch.no_grad():
        told = lm.model(**_inputs(lm), output_hidden_states=True).hidden_states[layer + 1]
        assert_close(residual(lm.model, _inputs(lm), layer), told, rtol=0, atol=0)
        with residual_after(lm.model, layer) as seen:
            whole = lm.model(**_inputs(lm)).logits
    assert_close(seen.hidden, told, rtol=0, atol=0)
    assert_close(whole, lm.model(**_inputs(lm)).logits)
    assert _hooks(lm) == 0


def test_later_blocks_are_not_computed(lm: LM) -> None:
    ran: list[int] = []
    for index, block in enumerate(blocks(lm.model)):
        block.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    residual(lm.model, _inputs(lm), 1)
    assert ran == [0, 1]


def test_gradients_flow_through_what_is_read_and_stop_at_its_block(lm: LM) -> None:
    residual(lm.model, _inputs(lm), 1).sum().backward()
    with_grad = [
        any(weight.grad is not None for weight in block.parameters()) for block in blocks(lm.model)
    ]
    assert with_grad == [True, True, False, False]


def test_it_reads_through_an_adapter(lm: LM) -> None:
    plain = residual(lm.model, _inputs(lm), 1).detach()
    with trainable(lm, "lora") as ready:
        adapted = residual(ready.lm.model, _inputs(lm), 1).detach()
    assert_close(adapted, plain)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_block_that_does_not_exist(lm: LM, layer: int) -> None:
    with pytest.raises(BadInput, match="blocks 0 to 3"):
        residual(lm.model, _inputs(lm), layer)


def test_hooks_go_when_the_model_fails(lm: LM) -> None:
    with pytest.raises(RuntimeError, match="deliberate"), residual_after(lm.model, 0):
        raise RuntimeError("deliberate")
    with pytest.raises(ValueError, match="input_ids"):
        residual(lm.model, {"nonsense": torch.ones(1)}, 0)
    assert _hooks(lm) == 0


def test_a_model_without_blocks_says_so(lm: LM) -> None:
    class Odd(nn.Module):
        config = lm.model.config

    with pytest.raises(BadInput, match="no list of 4 blocks"):
        blocks(Odd())
