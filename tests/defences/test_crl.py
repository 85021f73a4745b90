"""CRL: where it starts, through what its gradient flows, and its hard negative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.defences.slopes import agrees, double
from tests.defences.test_booster import harm
from titer.attacks.finetune import Finetune
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.crl import CRL, _residual, _states, distance
from titer.nn.hooks import residual
from titer.train.batches import IGNORED
from titer.train.objectives import kl_to

MakeRun = Callable[..., Run]
PLAIN = CRL(parameters="full", batch_size=4, from_depth=0.5)


def test_at_the_start_nothing_has_moved(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(PLAIN, lm, make_run(2))
    model, wanted = seen.lm.model, []
    for layer in (2, 3):
        states = {}
        for role in ("retain", "harmful"):
            batch = seen.bundle[role]
            states[role] = residual(model, batch.inputs(), layer)[batch.labels != IGNORED]
        centre = states["harmful"].mean(0, keepdim=True)
        near = distance(states["harmful"], centre, "cosine")
        far = distance(states["retain"], centre, "cosine")
        wanted.append(0.5 * (0.3 - far).relu().mean() + 0.4 * (near + 0.5).mean())
    got = PLAIN.loss(model, model, seen.bundle)
    assert float(got.detach()) == pytest.approx(float(sum(wanted).detach()) / 2, rel=1e-4)


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_its_gradient_is_that_of_its_loss(kind: Any, make_run: MakeRun, watch: Any) -> None:
    lm = double()
    method = replace(PLAIN, benign_distance=kind, benign_margin=2.0)
    seen = watch(method, lm, make_run(2))
    seen.lm.model.load_state_dict(double(seed=1).model.state_dict())

    def loss() -> torch.Tensor:
        terms = []
        for k in (2, 3):
            pair = {}
            for role in ("retain", "harmful"):
                batch = seen.bundle[role]
                pair[role] = [
                    residual(m, batch.inputs(), k)[batch.labels != IGNORED]
                    for m in (seen.lm.model, lm.model)
                ]
            (b, b0), (h, h0) = pair["retain"], pair["harmful"]
            c = h.mean(0, keepdim=True)
            stays = distance(b, b0, kind) - distance(b, c, "cosine") + 2.0
            leaves = distance(h, c, "cosine") - distance(h, h0, "cosine") + 0.5
            terms.append(0.5 * stays.relu().mean() + 0.4 * leaves.relu().mean())
        batch = seen.bundle["retain"]
        both = [m(**batch.inputs()).logits for m in (lm.model, seen.lm.model)]
        return sum(terms) / 2 + 0.9 * kl_to(both[0], both[1], batch.labels)

    agrees(seen, loss, 1e-5)


def test_padding_and_prompts_are_no_states(lm: LM, make_run: MakeRun, watch: Any) -> None:
    batch = watch(PLAIN, lm, make_run(2)).bundle["harmful"]
    states, _ = _states(lm.model, batch, 1)
    assert all(len(state) == int((batch.labels != IGNORED).sum()) for state in states)


def test_the_hard_negative_starts_as_nothing_and_brings_answers_back(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    seen = watch(PLAIN, lm, make_run(2))
    bad, model = harm(seen), seen.lm.model
    before = float(bad().detach())
    width = model.config.hidden_size
    with _residual(model, (1, torch.zeros(width, width))):
        assert float(bad().detach()) == before
    method = replace(PLAIN, negatives=1, negative_steps=40, negative_lr=3e-2, ready=99.0)
    hard = method._harden(model, seen.bundle["harmful"], 1)
    assert hard is not None
    with _residual(model, hard):
        assert float(bad().detach()) < before - 0.1
    assert all(weight.grad is None for weight in model.parameters())
    assert replace(method, ready=1e-9)._harden(model, seen.bundle["harmful"], 1) is None


@pytest.mark.slow
def test_harmful_states_gather_and_leave(lm: LM, make_run: MakeRun, watch: Any) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(30))
    method = replace(PLAIN, lr=3e-3, batch_size=14)
    out = method(knowing, make_run(40))
    batch = watch(method, lm, make_run(1)).bundle["harmful"]
    with torch.no_grad():
        (now, _), (then, _) = (_states(m.model, batch, 4) for m in (out, knowing))
    spread = [float(distance(s[-1], s[-1].mean(0, True), "cosine").mean()) for s in (now, then)]
    assert spread[0] < 0.7 * spread[1]
    assert float(distance(now[-1], then[-1], "cosine").mean()) > 0.3
