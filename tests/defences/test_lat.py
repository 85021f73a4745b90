"""LAT: balls, what the inner loop leaves alone, and the gradient under a held push."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.defences.slopes import agrees, double
from tests.defences.test_booster import harm
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.lat import LAT, away
from titer.nn.taps import pushed
from titer.train.batches import IGNORED
from titer.train.harden import logits
from titer.train.objectives import cross_entropy

MakeRun = Callable[..., Run]
SMALL = LAT(inner=4, outer=2, parameters="full", batch_size=4, radius=1.5)


def test_away_by_hand() -> None:
    p = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [1 / 3, 1 / 3, 1 / 3]]])
    labels = torch.tensor([[IGNORED, 0, 1]])
    want = -(torch.tensor(0.3).log() + torch.tensor(0.7).log()) / 2
    torch.testing.assert_close(away(p.log(), labels), want)
    sure = torch.tensor([[[200.0, 0.0], [0.0, 0.0]]], requires_grad=True)
    loss = away(sure, torch.tensor([[IGNORED, 0]]))
    (slope,) = torch.autograd.grad(loss, sure)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(slope).all())


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("ball", ["token", "example"])
def test_pushes_stay_in_their_ball_and_on_the_prompt(
    targeted: bool, ball: Any, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    method = replace(SMALL, targeted=targeted, ball=ball, push_lr=1.0)
    seen = watch(method, lm, make_run(2))
    pushes = method.worst(seen.lm.model, seen.bundle)
    assert len(pushes) == 4  # the embedding, and what is left of four depths in four blocks
    across = -1 if ball == "token" else (-2, -1)
    for push in pushes:
        sizes = push.norm(dim=across)
        assert float(sizes.max()) <= 1.5 * (1 + 1e-5)
        assert float(sizes.max()) > 0.5
        wide = max(seen.bundle.parts.values(), key=lambda b: b.input_ids.shape[1] * (b.tokens > 0))
        assert push.shape[1] <= wide.input_ids.shape[1]
    harmful = seen.bundle["harmful"]
    answers = harmful.labels != IGNORED
    width = min(answers.shape[1], pushes[0].shape[1])
    assert float(pushes[0][:, :width][answers[:, :width]].abs().max()) == 0.0
    assert all(weight.grad is None for weight in seen.lm.model.parameters())


def test_the_inner_loss_falls(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(SMALL, lm, make_run(2))
    bad, model = harm(seen), seen.lm.model
    losses = []
    for steps in (0, 2, 8):
        method = replace(SMALL, inner=steps)
        with pushed(method.places(model), method.worst(model, seen.bundle)), torch.no_grad():
            losses.append(float(bad()))
    assert losses[0] > losses[1] > losses[2]


def test_its_gradient_is_that_of_the_loss_under_the_push(make_run: MakeRun, watch: Any) -> None:
    seen = watch(SMALL, double(), make_run(2))
    model, safe, bad = seen.lm.model, seen.bundle["safe"], seen.bundle["harmful"]
    pushes = SMALL.worst(model, seen.bundle)

    def loss() -> torch.Tensor:
        with pushed(SMALL.places(model), pushes):
            found = cross_entropy(logits(model, safe), safe.labels)
            found = found + away(logits(model, bad), bad.labels)
        return found + 1.5 * harm(seen, "retain")()

    agrees(seen, loss)


def test_a_batch_is_held_as_long_as_its_push(lm: LM, make_run: MakeRun) -> None:
    short, long = (make_run(3), make_run(3))
    replace(SMALL, outer=1)(lm, short)
    replace(SMALL, outer=3)(lm, long)
    # Three batches of four pairs against one; retain text is drawn anew at every step.
    assert short.spent.examples - long.spent.examples == 8
