"""Circuit breakers: what they start from, which way they go, and where no gradient may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import agrees, double
from titer.attacks.finetune import Finetune
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.circuit_breakers import CircuitBreakers, reroute, strayed
from titer.nn.hooks import residual
from titer.train.batches import collate, encode_all

MakeRun = Callable[..., Run]


def test_the_losses_by_hand() -> None:
    then = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]])
    now = torch.tensor([[[2.0, 0.0], [0.0, -1.0], [9.0, 9.0]]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0]])
    loss = reroute(now, then, mask)
    assert float(loss.detach()) == pytest.approx(
        0.5
    )  # cosines 1 and −1, of which the second counts as 0
    (slope,) = torch.autograd.grad(loss, now)
    assert slope[0, 1].norm() == 0  # turned away already: no pull
    assert slope[0, 2].norm() == 0  # padding
    assert float(strayed(now.detach(), then, mask)) == pytest.approx((1.0 + 3.0) / 2)
    still = then.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(strayed(still, then, mask), still)
    assert_close(slope, torch.zeros_like(slope))


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_at_the_start_states_are_what_they_were(
    parameters: Any, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    seen = watch(CircuitBreakers(push=4.0, parameters=parameters), lm, make_run(5))
    loss = seen.grad(seen.lm.model, seen.bundle)["loss"]
    assert loss == pytest.approx(4.0, rel=1e-4)  # cosine 1, times push; nothing strayed


def test_blocks_beyond_the_last_target_get_no_gradient(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    seen = watch(CircuitBreakers(depths=(0.25,), parameters="full"), lm, make_run(3))
    names = set(seen.gradient())
    assert any(".layers.1." in name for name in names)
    assert not any(".layers.2." in name or "lm_head" in name for name in names)


def test_its_gradient_is_that_of_its_loss(make_run: MakeRun, watch: Any) -> None:
    lm, other, run = double(), double(seed=1), make_run(4)
    method = CircuitBreakers(depths=(0.25, 0.5), push=2.0, parameters="full", batch_size=4)
    seen = watch(method, lm, run)
    seen.lm.model.load_state_dict(other.model.state_dict())
    run.charge(steps=2)  # half way, so that both terms weigh

    def states(name: str) -> list[list[torch.Tensor]]:
        inputs = seen.bundle[name].inputs()
        return [[residual(m, inputs, k) for m in (seen.lm.model, lm.model)] for k in range(3)]

    def loss() -> torch.Tensor:
        forget, retain = states("forget"), states("retain")
        turned = sum(reroute(*forget[k], seen.bundle["forget"].attention_mask) for k in (1, 2)) / 2
        moved = sum(strayed(*pair, seen.bundle["retain"].attention_mask) for pair in retain) / 3
        return 2.0 * (0.75 * turned + 0.25 * moved)

    agrees(seen, loss)


@pytest.mark.slow
def test_targets_turn_and_the_rest_stays(lm: LM, make_run: MakeRun) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(30))
    out = CircuitBreakers(lr=1e-2)(knowing, make_run(60))

    def cosine(examples: Any) -> float:
        batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
        with torch.no_grad():
            pair = [residual(m.model, batch.inputs(), 2) for m in (out, knowing)]
        return float(reroute(pair[0], pair[1], batch.attention_mask))

    data = make_run(1).data
    harmful, kept = cosine(data.harmful), cosine(data.retain)
    assert harmful < 0.5 < 0.7 < kept
