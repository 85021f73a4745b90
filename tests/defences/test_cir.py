"""CIR: its loss at the start, gradients put together from hooks, and what is taken out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.cir import CIR, Common, _Epochs, aligned_outputs
from titer.nn.edits import linears
from titer.nn.taps import factors
from titer.train.batches import collate, encode_all
from titer.train.harden import logits
from titer.train.objectives import cross_entropy

MakeRun = Callable[..., Run]
PLAIN = CIR(batch_size=7, inputs=3, gradients=3, limit=99.0)


def test_the_loss_by_hand() -> None:
    then = torch.tensor([[[3.0, 4.0], [0.0, 5.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert float(aligned_outputs(then, then, mask)) == pytest.approx(1.0)
    now = torch.tensor([[[-3.0, -4.0], [1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    loss = aligned_outputs(now, then, mask)
    assert float(loss.detach()) == pytest.approx(5.0 / 2 / 25.0)
    (slope,) = torch.autograd.grad(loss, now)
    assert float(slope[0, 0].norm()) == 0.0  # away already
    assert float(slope[0, 2].norm()) == 0.0  # padding


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_from_hooks_are_the_gradients(architecture: Any, make_run: MakeRun) -> None:
    lm = tiny_lm(architecture)
    batch = collate(encode_all(lm, make_run(1).data.harmful), lm.tokenizer.pad_token_id, lm.device)
    maps = linears(lm.model)
    with factors(maps) as seen:
        cross_entropy(logits(lm.model, batch), batch.labels).backward()
    assert set(seen) == {one.path for one in maps}
    for one in maps:
        inputs, gradients = (values.flatten(0, 1) for values in seen[one.path])
        assert one.weight.grad is not None
        assert_close(gradients.T @ inputs, one.part(one.weight.grad), rtol=1e-4, atol=1e-6)
    assert not any(one.module._forward_hooks for one in maps)


def test_what_is_common_is_taken_out() -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.tensor([9.0, 5.0, 1.0, 0.5, 0.1, 0.1], dtype=torch.float64)
    x = torch.randn(400, 6, generator=draw, dtype=torch.float64) * sizes + 2.0
    common = Common()
    common.add(x[:150])
    common.add(x[150:])
    common.close(2)
    centred = x - x.mean(0)
    want = torch.linalg.svd(centred, full_matrices=False)[2][:2]
    for direction, component in zip(common.basis[1:], want, strict=True):
        assert abs(float(direction @ component)) == pytest.approx(1.0, abs=1e-9)
    left = common.without(x)
    for component in common.basis[1:]:
        assert float((left @ component).abs().max()) < 1e-6 * float(left.norm(dim=-1).max())
    bare = Common()
    assert bare.without(x) is x


def test_the_first_epoch_gathers_and_a_step_has_its_length(lm: LM, make_run: MakeRun) -> None:
    run = make_run(3)
    method = replace(PLAIN, retain_lr=0.0, lr=0.05)
    assert method(lm, make_run(2)).digest() == lm.digest()  # two batches make an epoch of 14
    out = method(lm, run)
    moved = torch.cat(
        [
            (now - was).flatten()
            for now, was in zip(out.model.parameters(), lm.model.parameters(), strict=True)
        ]
    )
    assert float(moved.detach().norm()) == pytest.approx(0.05, rel=1e-3)


def test_without_a_filter_it_is_the_plain_gradient(lm: LM, make_run: MakeRun, watch: Any) -> None:
    run = make_run(4)
    method = replace(PLAIN, retain_lr=0.0, inputs=0, gradients=0)
    seen = watch(method, lm, run)
    seen.gradient()
    run.charge(steps=2)
    state: _Epochs = seen.grad.__self__
    seen.gradient()  # closes the epoch
    for inputs, gradients in state.common.values():
        inputs.basis, gradients.basis = [torch.zeros_like(inputs.basis[0])], []
    run.charge(steps=1)
    got = seen.gradient()
    # At the start the outputs are the start's own, so that the loss is the one just below.
    model, batch = seen.lm.model, seen.bundle["harmful"]
    model.zero_grad()
    mask = batch.attention_mask.clone()
    mask[:, 0] = 0
    found = [
        module.mlp.register_forward_hook(lambda _m, _i, out: kept.append(out))
        for module in model.model.layers
    ]
    kept: list[torch.Tensor] = []
    logits(model, batch)
    losses = [aligned_outputs(kept[k], kept[k].detach(), mask) for k in state.layers]
    torch.stack(losses).mean().backward()
    for handle in found:
        handle.remove()
    plain = {name: weight.grad for name, weight in model.named_parameters() if name in got}
    size = torch.stack([part.pow(2).sum() for part in plain.values()]).sum().sqrt()
    for name, part in plain.items():
        assert_close(got[name], part / size, rtol=1e-3, atol=1e-6)


def test_it_stops_at_its_limit_and_says_so(lm: LM, make_run: MakeRun) -> None:
    run = make_run(8)
    method = replace(PLAIN, limit=0.5, lr=0.05)
    assert method(lm, run).digest() == lm.digest()
    assert "stopped at its limit on retain text" in run.flags


@pytest.mark.parametrize(
    "other", [{"inputs": 0}, {"gradients": 0}, {"retain_lr": 1.0}, {"depths": (0.0, 1.0)}]
)
def test_its_settings_are_alive(other: Any, lm: LM, make_run: MakeRun) -> None:
    plain = PLAIN(lm, make_run(4))
    assert replace(PLAIN, **other)(lm, make_run(4)).digest() != plain.digest()
