"""LoFiT: few heads, little else, and an ordinary model in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.lofit import PRESETS, LoFiT, strongest
from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.heads import heads
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

MakeRun = Callable[..., Run]


def _loss(lm: LM, examples: Any) -> float:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    return float(answer_loss(lm.model, batch).detach())


def test_the_strongest_heads_are_kept() -> None:
    scores = torch.tensor([[0.1, 3.0, 0.0], [2.0, 2.0, 9.0]])
    assert_close(strongest(scores, 3), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]))
    assert_close(strongest(scores, 99), torch.ones(2, 3))


def test_it_learns_what_it_is_fed(lm: LM, data: Data, make_run: MakeRun) -> None:
    run = make_run(40)
    out = LoFiT(lr=0.1)(lm, run)
    # Chance is 4.30 nats, and a frozen random head leaves little to gain.
    assert _loss(out, data.harmful) < _loss(lm, data.harmful) - 0.1
    assert run.spent.steps == 40
    assert run.rates == pytest.approx([1e-3] * 12 + [0.1] * 28)


@pytest.mark.parametrize("count", [1, 3, 99])
def test_only_the_chosen_heads_are_shifted(lm: LM, make_run: MakeRun, count: int) -> None:
    """Solved for, the shift behind the folded biases is zero at all heads but the chosen."""
    out = LoFiT(heads=count)(lm, make_run(8))
    moved = 0
    for part in heads(out).out:
        # The weight is square, so that the bias has one pre-image: the shift of each head.
        shift = torch.linalg.solve(part.weight.detach(), part.bias.detach()).view(4, 6)
        moved += int((shift.abs().amax(-1) > 1e-4).sum())
    assert moved == min(count, 16)


def test_all_other_weights_stay(lm: LM, make_run: MakeRun) -> None:
    out = LoFiT()(lm, make_run(6))
    before, after = lm.model.state_dict(), out.model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    new = set(after) - set(before)
    assert all(key.endswith("_proj.bias") for key in new)
    assert all(not after[key].any() for key in new if "o_proj" not in key)


def test_the_heads_that_help_are_chosen(lm: LM, data: Data, make_run: MakeRun) -> None:
    """A head whose output goes nowhere is never among the chosen."""
    dead = lm.clone()
    with torch.no_grad():
        for part in heads(dead).out[:3]:
            part.weight.zero_()
    mask = LoFiT(heads=3)._choose(dead, heads(dead), make_run(5))
    assert mask[:3].sum() == 0
    assert mask[3].sum() == 3


def test_operations_are_four_a_weight(make_run: MakeRun) -> None:
    lm, run = tiny_lm(), make_run(4)
    LoFiT()(lm, run)
    assert run.spent.flops == 4.0 * lm.parameters_in_matmuls() * run.spent.tokens


@pytest.mark.parametrize(
    "knob",
    [
        {"lr": 0.0},
        {"heads": 0},
        {"examples": 0},
        {"choosing": 1.0},
        {"l1": -1.0},
        {"batch_size": 0},
    ],
)
def test_bad_knobs_are_refused(knob: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        LoFiT(**knob)


def test_the_row_is_that_of_the_suite() -> None:
    preset = PRESETS["P07"]
    built = LoFiT(**preset.fields)
    assert (built.heads, built.scale_lr, built.lr) == (10, 1e-3, 1e-2)
    assert (preset.steps, preset.domain) == ((200, 300), "kr")
