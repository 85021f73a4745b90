"""Rounding: levels by hand, GPTQ against optimal brain quantisation done the slow way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import linears
from titer.nn.quantise import Grid, gptq, gptq_model, rtn, rtn_model


def _problem(rows: int = 12, width: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix, and inputs with correlated and unequal columns."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=draw)
    mix = torch.randn(width, width, generator=draw)
    inputs = torch.randn(200, width, generator=draw) @ mix
    return weight, inputs


def _slow(weight_OI: Tensor, moment_II: Tensor, bits: int, damp: float) -> Tensor:
    """Each column: round, then move those not yet rounded by the exact least-squares update, with
    the inverse of what is left of the Hessian worked out anew."""
    weight = weight_OI.double().clone()
    grid = Grid(weight, bits)
    hessian = moment_II.double() + damp * moment_II.double().diagonal().mean() * torch.eye(
        len(moment_II), dtype=torch.float64
    )
    out = torch.empty_like(weight)
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[column:, column:])
        out[:, column] = grid(weight[:, column : column + 1]).squeeze(1)
        error = weight[:, column] - out[:, column]
        weight[:, column:] -= error[:, None] * inverse[0] / inverse[0, 0]
    return out


def test_levels_by_hand() -> None:
    weight = torch.tensor([[-1.0, 0.1, 0.4, 2.0], [0.2, 0.3, 0.6, 0.9]])
    # Two bits: four levels. Row 0 from -1 to 2, row 1 from 0 (always a level) to 0.9.
    want = torch.tensor([[-1.0, 0.0, 0.0, 2.0], [0.3, 0.3, 0.6, 0.9]])
    assert_close(rtn(weight, 2), want)


def test_zero_stays_zero_and_a_flat_row_is_kept() -> None:
    weight = torch.tensor([[0.0, 0.0], [0.0, -3.0], [1.0, 0.0]])
    for bits in (1, 3, 8):
        assert_close(rtn(weight, bits), weight)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_row_has_no_more_levels_and_no_error_beyond_half_a_step(bits: int) -> None:
    weight, _ = _problem(4, 500)
    out = rtn(weight, bits)
    assert all(len(row.unique()) <= 2**bits for row in out)
    step = (weight.amax(1) - weight.amin(1)) / (2**bits - 1)
    # The zero point is a level, so the ends may lie up to half a step outside.
    assert bool(((out - weight).abs().amax(1) <= step * 1.001).all())
    assert float((out - weight).abs().mean()) < float(step.mean()) * 0.3


def test_rounding_twice_is_rounding_once() -> None:
    weight, _ = _problem()
    once = rtn(weight, 4)
    assert_close(rtn(once, 4), once)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("block", [7, 128])
def test_gptq_is_the_slow_reference(bits: int, block: int) -> None:
    for seed in range(3):
        weight, inputs = _problem(seed=seed)
        moment = (inputs.T @ inputs).double()
        fast = gptq(weight.double(), moment, bits, damp=0.01, block=block)
        slow = _slow(weight, moment, bits, damp=0.01).float()
        # In single precision a value half-way between two levels may fall on the other side.
        differ = (fast - slow).abs() > 1e-4
        assert float(differ.float().mean()) < 0.01


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_has_the_smaller_output_error(bits: int) -> None:
    for seed in range(5):
        weight, inputs = _problem(seed=seed)

        def error(other: Tensor, weight: Tensor = weight, inputs: Tensor = inputs) -> float:
            return float((inputs @ (other - weight).T).pow(2).mean())

        rounded = gptq(weight, inputs.T @ inputs, bits)
        assert error(rounded) < 0.8 * error(rtn(weight, bits))


def test_gptq_without_correlations_is_rounding() -> None:
    weight, _ = _problem()
    assert_close(gptq(weight, torch.eye(20), 3), rtn(weight, 3))


def test_gptq_takes_inputs_that_never_fire() -> None:
    weight, inputs = _problem()
    inputs[:, 3] = 0
    out = gptq(weight, inputs.T @ inputs, 3)
    assert_close(out[:, 3], rtn(weight, 3)[:, 3])
    assert bool(out.isfinite().all())


def test_many_bits_are_nearly_the_identity() -> None:
    weight, inputs = _problem()
    for out in (rtn(weight, 16), gptq(weight, inputs.T @ inputs, 16)):
        assert_close(out, weight, rtol=0, atol=5e-4)


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_have_a_range(bits: int) -> None:
    with pytest.raises(BadInput, match="1 to 16 bits"):
        rtn(torch.ones(1, 1), bits)


def _inputs(lm: LM) -> dict[str, Tensor]:
    prompts = [lm.prompt_ids(f"how is alloy n{index} made ?") for index in range(20)]
    ids = torch.tensor(prompts)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_a_whole_model_is_rounded_block_by_block(lm: LM) -> None:
    inputs = _inputs(lm)
    near, best = lm.clone(), lm.clone()
    rtn_model(near, 3)
    gptq_model(best, [inputs], 3)
    for was, one, two in zip(*(linears(m.model) for m in (lm, near, best)), strict=True):
        levels = Grid(was.weight_OI, 3)
        for changed in (one, two):
            assert_close(levels(changed.weight_OI), changed.weight_OI)
    with torch.no_grad():
        want = lm.model(**inputs).logits
        off = [float((m.model(**inputs).logits - want).pow(2).mean()) for m in (near, best)]
    assert 0 < off[1] < off[0]
    table = lm.model.get_input_embeddings().weight
    assert_close(best.model.get_input_embeddings().weight, table, rtol=0, atol=0)


def test_gptq_needs_text(lm: LM) -> None:
    with pytest.raises(BadInput, match="calibrate"):
        gptq_model(lm, [], 4)
