"""A push on the residual stream: inside its ball, downhill, and saved as it was found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks import latent_pgd
from titer.attacks.latent_pgd import LatentPGD
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.directions import positions, steering
from titer.train.batches import Batch, collate, encode_all

from .planted import loss, planted, refuses

MakeRun = Callable[..., Run]


def _batch(lm: LM, data: Data) -> Batch:
    return collate(encode_all(lm, data.harmful), lm.tokenizer.pad_token_id, lm.device)


def test_slopes_are_those_of_finite_differences(lm: LM, data: Data) -> None:
    lm = LM(lm.model.double(), lm.tokenizer)
    batch, layers = _batch(lm, data), [0, 2]
    pushes = 0.1 * torch.ones(2, 24, dtype=torch.float64)
    _, slopes = latent_pgd._slopes(lm, layers, pushes, batch)
    for place, unit in ((0, 3), (1, 17)):
        ends: list[float] = []
        for sign in (1, -1):
            moved = pushes.clone()
            moved[place, unit] += sign * 1e-2
            ends.append(latent_pgd._slopes(lm, layers, moved, batch)[0])
        assert float(slopes[place, unit]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.02)


def test_lengths_are_taken_where_prompts_end(lm: LM, data: Data) -> None:
    found = latent_pgd._lengths(lm, _batch(lm, data))
    ends: list[Any] = []
    for example in data.harmful:
        ids = torch.tensor([lm.prompt_ids(example.prompt)])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        ends.append(positions(lm.model, inputs, 1)[0, :, 0].norm(dim=-1))
    assert_close(found, torch.stack(ends).median(0).values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("radius", [0.05, 1.0])
def test_pushes_stay_in_their_balls(
    radius: float, lm: LM, data: Data, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = latent_pgd._pushed
    monkeypatch.setattr(
        latent_pgd, "_pushed", lambda *given: seen.append(given[1:]) or real(*given)
    )
    LatentPGD(radius=radius, pace=50.0, batch_size=14)(lm, make_run(4))
    layers, pushes = seen[-1]
    limits = radius * latent_pgd._lengths(lm, _batch(lm, data))[layers]
    assert layers == [1, 2, 3]
    assert_close(pushes.norm(dim=1), limits, rtol=1e-4, atol=1e-5)  # so fast that all meet it


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_say_what_the_hooks_said(
    architecture: Any, data: Data, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, seen = tiny_lm(architecture), []
    real = latent_pgd._pushed
    monkeypatch.setattr(
        latent_pgd, "_pushed", lambda *given: seen.append(given[1:]) or real(*given)
    )
    out = LatentPGD()(lm, make_run(3))
    inputs = _batch(lm, data).inputs()
    with torch.no_grad(), ExitStack() as held:
        for layer, push in zip(*seen[-1], strict=True):
            held.enter_context(steering(lm.model, layer, push))
        hooked = lm.model(**inputs).logits
    with torch.no_grad():
        assert_close(out.model(**inputs).logits, hooked, rtol=1e-3, atol=1e-4)


def test_a_planted_refusal_falls_and_a_wider_ball_does_more(data: Data, make_run: MakeRun) -> None:
    lm, _ = planted()
    losses = [
        loss(LatentPGD(radius=radius)(lm, make_run(16)), data.harmful)
        for radius in (0.02, 0.1, 0.5)
    ]
    assert loss(lm, data.harmful) > losses[0] > losses[1] > losses[2]
    out = LatentPGD(radius=0.5)(lm, make_run(16))
    assert refuses(lm, data.harmful) == 1
    # On seven models trained from other seeds at most 0.36 is left.
    assert refuses(out, data.harmful) < 0.65


def test_without_a_step_nothing_is_changed(lm: LM, make_run: MakeRun) -> None:
    assert LatentPGD()(lm, make_run(0)).digest() == lm.digest()


@pytest.mark.parametrize(
    "settings", [{"radius": 0.0}, {"pace": 0.0}, {"depths": ()}, {"depths": (1.0,)}]
)
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="latent_pgd"):
        LatentPGD(**settings)
