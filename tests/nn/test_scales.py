"""What cancels between weights is taken out, whatever its size, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.lm import LM
from titer.core.records import Budget
from titer.defences.gain_lock import GainLock
from titer.defences.spectral_brake import SpectralBrake
from titer.method import Run
from titer.nn.edits import embeddings, writers
from titer.nn.reparametrise import (
    by_path,
    heads,
    norms,
    rescale,
    rotate_residual,
    shuffle_hidden,
    turn_heads,
)
from titer.nn.scales import REACH, align, apart, rescaled

Change = Callable[[LM], LM]


def _lively(architecture: Any, seed: int) -> LM:
    """Norms off 1, biases off 0."""
    lm = tiny_lm(architecture, seed)
    draw = torch.Generator().manual_seed(seed)
    for weight in lm.model.parameters():
        noise = torch.randn(weight.shape, generator=draw)
        weight.detach().copy_(weight.detach() + 0.3 * noise if weight.dim() == 1 else 4 * weight)
    return lm


def _logits(lm: LM) -> torch.Tensor:
    ids = torch.tensor([lm.prompt_ids("how is alloy n3 made ?")])
    with torch.no_grad():
        return lm.model(input_ids=ids).logits


def gained(factor: float) -> Change:
    """Gains of norms so many times as large, and what reads them as much smaller."""

    def change(lm: LM) -> LM:
        out = lm.clone()
        for norm, reading in norms(out):
            rescale(norm, reading, torch.full_like(norm.weight.detach(), factor).double())
        return out

    return change


def _locked(defence: Any) -> Change:
    return lambda lm: defence(lm, Run(budget=Budget(steps=0), data=Data(), seed=0))


def _hidden(lm: LM) -> LM:
    out = lm.clone()
    with torch.no_grad():
        for path, linear in by_path(out).items():
            linear.weight_OI.mul_({"up_proj": 4096.0, "down_proj": 1 / 4096}.get(path[6:], 1.0))
    return out


def _headed(lm: LM) -> LM:
    out = lm.clone()
    with torch.no_grad():
        for head in heads(out):
            head.values.mul_(1 / 4096)
            for columns in head.mixed:
                columns.mul_(4096)
    return out


@pytest.mark.parametrize("factor", [2.0**-10, 1 / 8, 8.0, 2.0**10])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_power_of_two_is_taken_out_to_the_bit(architecture: Any, factor: float) -> None:
    """Whatever the model differs in beside it stays."""
    base, mine = _lively(architecture, 0), _lively(architecture, 0)
    with torch.no_grad():
        for weight in mine.model.parameters():
            weight.mul_(1.1)
    plain = gained(1.0)(mine)  # a tied head is untied
    found = gained(factor)(mine)
    align(found, base)
    assert found.digest() == plain.digest()


@pytest.mark.parametrize("factor", [1 / 700, 1 / 7, 7.0, 100.0, 1000.0])
def test_another_factor_leaves_less_than_that_of_a_square_root_of_two(factor: float) -> None:
    base = _lively("llama", 0)
    found = gained(factor)(base)
    align(found, base)
    assert_close(_logits(found), _logits(base), rtol=1e-3, atol=1e-3)
    for (norm, _), (theirs, _) in zip(norms(found), norms(base.clone()), strict=True):
        ratio = (norm.weight / theirs.weight).detach()
        assert 0.7 < float(ratio.min()) <= float(ratio.max()) < 1.42


@pytest.mark.parametrize("change", [_hidden, _headed, _locked(GainLock(bits=10))])
def test_channels_units_and_heads(change: Change) -> None:
    base = _lively("llama", 0)
    found = change(base)
    align(found, base)
    assert_close(_logits(found), _logits(base), rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(found.model.parameters(), base.model.parameters(), strict=True):
        assert 1 / 3 < float(mine.detach().norm() / theirs.detach().norm()) < 3


def test_beside_rotations_and_other_places(tmp_path: Path) -> None:
    """W07's whole group, gains a thousandth of what they were, and a stretched spectrum."""
    base = _lively("llama", 0)
    found = base.clone()
    draw = torch.Generator().manual_seed(3)
    for rewrite in (rotate_residual, shuffle_hidden, turn_heads):
        rewrite(found, draw)
    found = gained(1e-3)(_locked(SpectralBrake(alpha=1e4))(found))
    base.save(tmp_path / "base")
    found.save(tmp_path / "found")
    (said,) = rescaled(tmp_path / "found", tmp_path / "base", ("f", "b"))
    assert said.says.startswith("weights at other scales: ")
    assert not said.stuck
    align(found, base)
    assert_close(_logits(found), _logits(base), rtol=1e-2, atol=1e-2)


def test_what_is_near_stays_as_it_is(tmp_path: Path) -> None:
    base, mine = _lively("llama", 0), _lively("llama", 1)
    before = mine.digest()
    align(mine, base)
    assert mine.digest() == before
    base.save(tmp_path / "base")
    mine.save(tmp_path / "mine")
    assert rescaled(tmp_path / "mine", tmp_path / "base", ("m", "b")) == ()


def test_what_grew_and_does_not_cancel_is_no_other_scale() -> None:
    base, grown = _lively("llama", 0), _lively("llama", 0)
    with torch.no_grad():
        for path, linear in by_path(grown).items():
            linear.weight_OI.mul_(5.0 if "mlp" in path else 1.0)
    assert apart(grown, base) == ()


def test_what_cannot_be_written_otherwise_is_said(tmp_path: Path) -> None:
    """Norms take out the scale of the stream, which no other weight tells."""
    base = _lively("llama", 0)
    found = base.clone()
    with torch.no_grad():
        for table in embeddings(found.model)[:1]:
            table.weight.mul_(2 * REACH)
        for writer in writers(found.model):
            writer.weight_OI.mul_(2 * REACH)
    assert_close(_logits(found), _logits(base), rtol=1e-2, atol=1e-2)
    base.save(tmp_path / "base")
    found.save(tmp_path / "found")
    (said,) = rescaled(tmp_path / "found", tmp_path / "base", ("f", "b"))
    assert said.stuck
    assert "54 times the undefended" in said.says


def test_models_of_other_shapes_or_kinds_are_left_alone() -> None:
    base, other, smaller = _lively("llama", 0), _lively("gpt2", 0), tiny_lm("llama")
    rows = torch.nn.Parameter(100 * torch.ones(8, 24))
    smaller.model.set_input_embeddings(torch.nn.Embedding(8, 24, _weight=rows))
    for mine in (other, smaller):
        before = mine.digest()
        align(mine, base)
        assert mine.digest() == before
    assert apart(other, base) == ()
