"""A divided batch has the gradient of the whole one, for every loss that defences use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from titer.conformance import Architecture, tiny_data, tiny_lm
from titer.core import catalogue
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.hooks import residual_after
from titer.train.chunks import WHOLE, in_chunks

ONE_ROW = 1
FEW_ROWS = 30
DESCENT = ("grad_diff", "ilu", "npo", "sam", "simnpo", "undo", "wga")


def exact(architecture: Architecture) -> LM:
    """A tiny model in float64, without dropout, which draws per pass."""
    lm = tiny_lm(architecture)
    lm.model.double()
    for part in lm.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    for name in ("attn_pdrop", "resid_pdrop", "embd_pdrop"):
        setattr(lm.model.config, name, 0.0)
    return lm


def trained(lm: LM, kind: Any, name: str, chunk: int | None, **fields: Any) -> tuple[LM, Run]:
    run = Run(budget=Budget(steps=2), data=tiny_data(), chunk=chunk)
    return catalogue.build(kind, name, fields)(lm, run), run


def apart(one: LM, other: LM) -> float:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("chunk", [ONE_ROW, FEW_ROWS])
@pytest.mark.parametrize("name", DESCENT)
def test_every_loss_gives_the_same_weights_in_parts(name: str, chunk: int) -> None:
    lm = exact("llama")
    whole, _ = trained(lm, "defence", name, None)
    parts, run = trained(lm, "defence", name, chunk)
    assert apart(whole, lm) > 1e-6
    assert apart(whole, parts) < 1e-14
    assert WHOLE not in run.flags


def test_a_model_whose_body_is_called_by_place_is_divided() -> None:
    lm = exact("gpt2")
    with in_chunks(lm.model, 4) as division:
        lm.model(input_ids=torch.arange(12).view(3, 4), use_cache=False)
    assert (division.divided, division.whole) == (1, 0)


@pytest.mark.parametrize("reduction", ["batch", "mean"])
def test_a_loss_that_is_no_mean_over_rows_does_too(reduction: str) -> None:
    lm = exact("qwen2")
    whole, _ = trained(lm, "defence", "npo", None, reduction=reduction)
    parts, _ = trained(lm, "defence", "npo", ONE_ROW, reduction=reduction)
    assert apart(whole, lm) > 1e-6
    assert apart(whole, parts) < 1e-14


@pytest.mark.parametrize("parameters", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_attacks_do_too(architecture: Architecture, parameters: str) -> None:
    lm = exact(architecture)
    whole, _ = trained(lm, "attack", "finetune", None, parameters=parameters, lr=1e-3)
    parts, run = trained(lm, "attack", "finetune", ONE_ROW, parameters=parameters, lr=1e-3)
    assert apart(whole, lm) > 1e-6
    assert apart(whole, parts) < 1e-12
    assert WHOLE not in run.flags


def test_what_reads_activations_goes_whole_and_is_counted() -> None:
    lm = exact("llama")
    ids = torch.arange(12).view(3, 4)
    with in_chunks(lm.model, 4) as division, residual_after(lm.model, 1) as seen:
        lm.model.base_model(input_ids=ids, use_cache=False)
    assert seen.hidden.shape[0] == 3
    assert (division.divided, division.whole) == (0, 1)
    assert "forward" not in vars(lm.model.base_model)


def test_a_model_that_changed_before_the_way_back_is_refused() -> None:
    lm = exact("llama")
    for weight in lm.model.parameters():
        weight.requires_grad_(True)
    ids = torch.arange(12).view(3, 4)
    with in_chunks(lm.model, 4):
        loss = lm.model(input_ids=ids, use_cache=False).logits.sum()
        with torch.no_grad():
            next(lm.model.base_model.parameters()).mul_(2)
        with pytest.raises(BadInput, match="cannot be divided"):
            loss.backward()


def test_less_is_held_at_once() -> None:
    """Of the tensors that wait for the way back, those of the blocks are gone."""
    lm = exact("llama")
    ids = torch.arange(40).view(10, 4)

    def held(chunk: int | None) -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with (
            in_chunks(lm.model, chunk),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            lm.model.base_model(input_ids=ids, use_cache=False).last_hidden_state.sum()
        return total

    assert held(4) < 0.1 * held(None)
