"""Directions: by hook and by weight the same, whole and in part, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.directions import (
    EMBEDDING,
    Cut,
    ablating,
    everywhere,
    orthogonalise,
    orthonormal,
    positions,
    project_out,
    steer,
    steering,
)
from titer.nn.edits import writers
from titer.nn.hooks import residual


def _lively(architecture: Any) -> LM:
    """A tiny model in which every part has something to say, biases and norms too."""
    lm = tiny_lm(architecture)
    draw = torch.Generator().manual_seed(1)
    for weight in lm.model.parameters():
        noise = torch.randn(weight.shape, generator=draw)
        weight.detach().copy_(weight.detach() + 0.3 * noise if weight.dim() == 1 else 4 * weight)
    return lm


def _inputs(lm: LM) -> dict[str, torch.Tensor]:
    ids = torch.tensor([lm.prompt_ids("how is alloy n3 made ?")])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _logits(lm: LM) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(**_inputs(lm)).logits


def _basis(lm: LM, rank: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(rank)
    return orthonormal(torch.randn(rank, lm.model.config.hidden_size, generator=draw))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rank", [1, 3])
def test_hook_and_weight_edit_agree(architecture: Any, rank: int) -> None:
    lm = _lively(architecture)
    cuts = everywhere(lm.model, _basis(lm, rank))
    plain = _logits(lm)
    with ablating(lm.model, cuts):
        hooked = _logits(lm)
    assert_close(_logits(lm), plain, rtol=0, atol=0)
    out = lm.clone()
    orthogonalise(out, cuts)
    assert_close(_logits(out), hooked, rtol=1e-4, atol=1e-4)
    assert float((plain - hooked).abs().max()) > 0.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_they_agree_in_part_and_in_places(architecture: Any) -> None:
    lm = _lively(architecture)
    basis = _basis(lm, 1)
    path = writers(lm.model)[3].path
    cuts = {path: Cut(basis, 0.7), EMBEDDING: Cut(basis, 1.2)}
    with ablating(lm.model, cuts):
        hooked = _logits(lm)
    out = lm.clone()
    orthogonalise(out, cuts)
    assert_close(_logits(out), hooked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_ablated_is_nowhere_in_the_residual_stream(architecture: Any) -> None:
    lm = _lively(architecture)
    basis = _basis(lm, 2)
    plain = residual(lm.model, _inputs(lm), 3).detach()
    assert float((plain @ basis.T).abs().max()) > 0.1
    orthogonalise(lm, everywhere(lm.model, basis))
    for layer in range(4):
        left = residual(lm.model, _inputs(lm), layer).detach() @ basis.T
        assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-5)


def test_a_full_projection_is_idempotent_and_none_is_the_identity(lm: LM) -> None:
    basis = _basis(lm, 2)
    h = torch.randn(5, 24)
    once = project_out(h, Cut(basis))
    assert_close(project_out(once, Cut(basis)), once, rtol=0, atol=1e-6)
    assert_close(project_out(h, Cut(basis, 0.0)), h, rtol=0, atol=0)
    before = lm.digest()
    orthogonalise(lm, {path: Cut(basis, 0.0) for path in everywhere(lm.model, basis)})
    assert lm.digest() == before
    orthogonalise(lm, {})
    assert lm.digest() == before


def test_projection_by_hand() -> None:
    v = orthonormal([torch.tensor([0.0, 2.0])])
    assert_close(v, torch.tensor([[0.0, 1.0]]))
    h = torch.tensor([[3.0, 4.0]])
    assert_close(project_out(h, Cut(v)), torch.tensor([[3.0, 0.0]]))
    assert_close(project_out(h, Cut(v, 0.5)), torch.tensor([[3.0, 2.0]]))


def test_a_basis_keeps_the_span_and_refuses_what_adds_nothing() -> None:
    a, b = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    basis = orthonormal([a, b])
    assert_close(basis @ basis.T, torch.eye(2))
    for vector in (a, b):
        assert_close(project_out(vector, Cut(basis)), torch.zeros(3), rtol=0, atol=1e-6)
    for bad in ([a, 2 * a], [torch.zeros(3)]):
        with pytest.raises(BadInput, match="zero or lies in the span"):
            orthonormal(bad)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_positions_are_the_ends_of_padded_prompts_and_their_mean(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    short, long = lm.prompt_ids("alloy n1"), lm.prompt_ids("how is alloy n3 made ?")
    ids = torch.full((2, len(long)), lm.tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate((short, long)):
        ids[row, : len(prompt)] = torch.tensor(prompt)
        mask[row, : len(prompt)] = 1
    found = positions(lm.model, {"input_ids": ids, "attention_mask": mask}, 2)
    for row, prompt in enumerate((short, long)):
        alone = {"input_ids": torch.tensor([prompt])}
        for layer in range(4):
            h = residual(lm.model, alone, layer)[0].detach()
            want = torch.stack([h[-2], h[-1], h.mean(0)])
            assert_close(found[row, layer], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 2])
def test_steering_ends_up_in_a_model_that_is_saved(
    architecture: Any, layer: int, tmp_path: Any
) -> None:
    lm = _lively(architecture)
    vector = torch.linspace(-1, 1, lm.model.config.hidden_size)
    with steering(lm.model, layer, vector):
        hooked = _logits(lm)
    out = lm.clone()
    steer(out, layer, vector)
    assert_close(_logits(out), hooked)
    assert float((_logits(lm) - hooked).abs().max()) > 0.05
    out.save(tmp_path)
    again = LM.load(tmp_path)
    assert again.digest() == out.digest()
    assert_close(_logits(again), _logits(out), rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_steering_moves_the_residual_stream_after_its_block_and_not_before(
    architecture: Any,
) -> None:
    lm = _lively(architecture)
    vector = torch.linspace(-1, 1, lm.model.config.hidden_size)
    before = [residual(lm.model, _inputs(lm), layer).detach() for layer in (0, 1)]
    steer(lm, 1, vector)
    after = [residual(lm.model, _inputs(lm), layer).detach() for layer in (0, 1)]
    assert_close(after[0], before[0], rtol=0, atol=0)
    assert_close(after[1], before[1] + vector, rtol=1e-4, atol=1e-5)
