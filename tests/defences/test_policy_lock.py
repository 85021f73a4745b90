"""Provider-run training with directions locked: the update stays in what is allowed, exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, Architecture, tiny_lm
from titer.core.method import Run
from titer.defences.policy_lock import Policy, PolicyLock, locked_directions
from titer.nn.edits import linears
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

MakeRun = Callable[..., Run]


def test_the_projection_in_closed_form() -> None:
    """Locked along (1, 1)/√2: of an update (a, b) the mean of the two is taken out of both."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    q = torch.tensor([[1.0], [1.0]]) / 2**0.5
    policy = Policy([(weight, q)])
    weight += torch.tensor([[4.0, 0.0], [2.0, 6.0]])
    assert policy.leak() == pytest.approx(36**0.5, rel=1e-6)
    policy.enforce()
    assert_close(
        weight, torch.tensor([[1.0, 2.0], [3.0, 4.0]]) + torch.tensor([[1.0, -3.0], [-1.0, 3.0]])
    )
    assert policy.leak() == pytest.approx(0, abs=1e-6)
    kept = weight.clone()
    policy.enforce()
    assert_close(weight, kept)


def test_directions_are_those_of_the_hazards_gradient(make_run: MakeRun) -> None:
    """One batch that holds the whole hazard: the leading left singular vectors of its gradient."""
    lm, run = tiny_lm(), make_run(3)
    found = locked_directions(lm, run, rank=2, batch_size=len(run.data.harmful))
    assert run.spent.steps == 0
    assert run.spent.tokens > 0
    model = lm.clone()
    batch = collate(encode_all(model, run.data.harmful), model.tokenizer.pad_token_id, model.device)
    answer_loss(model.model, batch).backward()
    for linear in linears(model.model):
        u, _, _ = torch.linalg.svd(linear.module.weight.grad.double())
        q = found[linear.path]
        assert_close(q.T @ q, torch.eye(2).double())
        # The same plane, whatever basis it is written in.
        assert_close(q @ q.T, u[:, :2] @ u[:, :2].T, rtol=0, atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("optimiser", ["adamw", "sgd-nesterov", "adadelta"])
def test_the_update_stays_in_the_allowed_subspace(
    optimiser: str, architecture: Architecture, make_run: MakeRun
) -> None:
    """Under weight decay too, and at every look on the way."""
    lm = tiny_lm(architecture)
    lock = PolicyLock(rank=3, job="harmful", lr=1e-2, optimiser=optimiser, weight_decay=0.1)  # type: ignore[arg-type]
    found = locked_directions(lm, make_run(8), lock.rank, lock.batch_size)
    before = {linear.path: linear.weight_OI.double() for linear in linears(lm.model)}
    worst: list[float] = []

    def look(now, _run) -> None:  # type: ignore[no-untyped-def]
        worst.append(
            max(
                float((found[one.path].T @ (one.weight_OI.double() - before[one.path])).norm())
                for one in linears(now.model)
            )
        )

    out = lock(lm, make_run(8, checkpoints=(0, 1, 4, 8), emit=look))
    assert len(worst) == 4
    assert max(worst) < 1e-6
    moved = [
        float((one.weight_OI.double() - before[one.path]).norm()) for one in linears(out.model)
    ]
    assert min(moved) > 1e-3
    names = {id(one.module.weight) for one in linears(out.model)}
    for (name, weight), was in zip(
        out.model.named_parameters(), lm.model.parameters(), strict=True
    ):
        if id(weight) not in names:
            assert torch.equal(weight, was), name


def test_projecting_the_gradient_instead_would_drift(make_run: MakeRun) -> None:
    """Why it is the update that is projected: AdamW divides element by element."""
    lm = tiny_lm()
    linear = linears(lm.clone().model)[0]
    found = locked_directions(lm, make_run(3), 3, 16)[linear.path].float()
    weight = torch.nn.Parameter(linear.weight_OI.clone())
    optimiser = torch.optim.AdamW([weight], lr=1e-2)
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        grad = torch.randn(weight.shape, generator=draw)
        weight.grad = grad - found @ (found.T @ grad)
        optimiser.step()
    assert float((found.T @ (weight.detach() - linear.weight_OI)).norm()) > 1e-2


def test_the_result_carries_no_trace_of_the_lock(make_run: MakeRun) -> None:
    """Open weights are not protected: a plain fine-tune moves the locked directions at once."""
    from titer.attacks.finetune import Finetune

    lm = tiny_lm()
    lock = PolicyLock(rank=3, lr=1e-3)
    found = locked_directions(lm, make_run(3), lock.rank, lock.batch_size)
    out = lock(lm, make_run(3))
    after = Finetune(lr=1e-2)(out, make_run(5))
    assert any(
        float((found[now.path].T @ (now.weight_OI - was.weight_OI).double()).norm()) > 1e-2
        for now, was in zip(linears(after.model), linears(out.model), strict=True)
    )
