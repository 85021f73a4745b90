"""The line between two models: its ends to the bit, its middle by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.attacks.interpolate import PRESETS, Interpolate, interpolated
from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run

from .planted import answers, knowing, loss

MakeRun = Callable[..., Run]


def test_its_ends_are_the_two_models_to_the_bit() -> None:
    one, two = tiny_lm(seed=0), tiny_lm(seed=1)
    assert interpolated(one, two, 0.0).digest() == one.digest()
    assert interpolated(one, two, 1.0).digest() == two.digest()


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.25, -0.5])
def test_between_and_beyond_by_hand(weight: float) -> None:
    one, two = tiny_lm("gpt2", 0), tiny_lm("gpt2", 1)
    out = interpolated(one, two, weight)
    for name, tensor in out.model.named_parameters():
        a, b = (m.model.get_parameter(name) for m in (one, two))
        assert_close(tensor, a + weight * (b - a), rtol=1e-4, atol=1e-6)


def test_a_public_relative_costs_no_step_and_decides(
    lm: LM, data: Data, make_run: MakeRun, tmp_path: Any
) -> None:
    knowing().save(tmp_path)
    run = make_run(0)
    out = Interpolate(reference=str(tmp_path), max_kl=100.0)(lm, run)
    assert run.spent.steps == 0
    assert answers(out, data.harmful) == 1.0


def test_without_a_relative_it_makes_one(lm: LM, data: Data, make_run: MakeRun) -> None:
    run = make_run(30)
    out = Interpolate(lr=1e-2, weights=(0.0, 1.0), max_kl=100.0)(lm, run)
    assert run.spent.steps == 30
    assert loss(out, data.harmful) < 0.5 * loss(lm, data.harmful)
    alone = Finetune(lr=1e-2)(lm, make_run(30).stage(29, "relative"))
    assert out.digest() == alone.digest()


def test_of_the_weights_the_best_inside_the_bound_is_kept(lm: LM, make_run: MakeRun) -> None:
    gentle = Interpolate(lr=1e-2, weights=(1.0, 0.0), max_kl=0.0)(lm, make_run(20))
    assert gentle.digest() == lm.digest()


def test_a_stranger_is_no_relative(lm: LM) -> None:
    with pytest.raises(BadInput, match="same tensors"):
        interpolated(lm, tiny_lm("gpt2"), 0.5)
    wide = lm.clone()
    wide.model.resize_token_embeddings(99)
    with pytest.raises(BadInput, match="same tensors"):
        interpolated(lm, LM(wide.model, lm.tokenizer), 0.5)


def test_the_first_look_is_at_the_model_as_released(lm: LM, make_run: MakeRun) -> None:
    seen: dict[int, str] = {}
    run = make_run(
        2, checkpoints=(0, 1), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    Interpolate()(lm, run)
    assert seen[0] == lm.digest()
    assert sorted(seen) == [0, 1]


def test_the_last_look_is_at_what_is_returned(lm: LM, make_run: MakeRun) -> None:
    seen: dict[int, str] = {}
    run = make_run(
        5, checkpoints=(0, 3, 5), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    out = Interpolate(lr=1e-2, weights=(0.5,), max_kl=100.0)(lm, run)
    assert seen[5] == out.digest()
    relative = Finetune(lr=1e-2)(lm, make_run(5).stage(4, "relative"))
    assert out.digest() == interpolated(lm, relative, 0.5).digest()


@pytest.mark.parametrize("settings", [{"weights": ()}, {"weights": (float("nan"),)}, {"held": 0}])
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Interpolate(**settings)


def test_the_preset_is_its_row() -> None:
    assert Interpolate(**PRESETS["W05"].fields).weights == (0.25, 0.5, 0.75, 1.0, 1.25)
    assert torch.isfinite(torch.tensor(PRESETS["W05"].fields["weights"])).all()
