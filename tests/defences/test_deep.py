"""Deep tokens and DeepRefusal: where refusals begin, what is supervised, and what is ablated."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added, agrees, double
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.deep_refusal import DeepRefusal, ablated_by_chance, refusal_direction
from titer.defences.deep_tokens import DeepTokens
from titer.nn.taps import outputs, sites, tapped
from titer.train.batches import IGNORED
from titer.train.grads import gradient, trained
from titer.train.harden import logits
from titer.train.objectives import row_losses, token_losses
from titer.train.recovery import recovering

MakeRun = Callable[..., Run]


def test_refusals_begin_where_said_and_alone_are_supervised(lm: LM, make_run: MakeRun) -> None:
    harmful = make_run(1).data.harmful
    by_id = {one.id: one for one in harmful}
    stream = recovering(lm, harmful, rows=14, rng=random.Random(0), chance=0.5, lengths=(1, 2))
    begun = 0
    for _ in range(40):
        batch = next(stream)
        for name, ids, labels in zip(batch.ids, batch.input_ids, batch.labels, strict=True):
            one = by_id[name]
            wanted = lm.answer_ids(one.refusal, end=True)
            supervised = ids[labels != IGNORED].tolist()
            assert supervised == wanted  # the end of the turn among it
            head = ids[: int((labels != IGNORED).int().argmax())].tolist()
            prompt = lm.prompt_ids(one.prompt)
            answer = lm.answer_ids(one.answer, end=False)
            assert head[: len(prompt)] == prompt
            assert head[len(prompt) :] in ([], answer[:1], answer[:2])
            begun += len(head) > len(prompt)
    assert abs(begun / 560 - 0.5) < 0.1


def test_deep_tokens_is_one_mean_over_all_tokens(make_run: MakeRun, watch: Any) -> None:
    seen = watch(DeepTokens(anchors=6), double(), make_run(2))

    def loss() -> torch.Tensor:
        total, count = torch.tensor(0.0, dtype=torch.float64), 0
        for batch in seen.bundle.parts.values():
            total = total + token_losses(logits(seen.lm.model, batch), batch.labels).sum()
            count += int((batch.labels[:, 1:] != IGNORED).sum())
        return total / count

    assert set(seen.bundle.parts) == {"safe", "retain"}
    agrees(seen, loss)


def test_without_ablation_deep_refusal_is_plain_training(make_run: MakeRun, watch: Any) -> None:
    method = DeepRefusal(p=0.0, begun=0.0, parameters="full", batch_size=4)
    seen = watch(method, double(), make_run(2))
    model, weights = seen.lm.model, trained(seen.lm.model)
    sums = {
        role: row_losses(logits(model, batch), batch.labels, "sum").mean()
        for role, batch in seen.bundle.parts.items()
    }
    want = gradient(0.8 * sums["retain"] + 0.2 * sums["safe"], weights)
    assert_close(added(seen), want)


def test_the_direction_is_gone_as_often_as_said(lm: LM, make_run: MakeRun) -> None:
    unit = refusal_direction(lm, make_run(1), 0.6)
    assert float(unit.norm()) == pytest.approx(1.0, rel=1e-5)
    modules = [one for s in ("attention", "mlp") for one in tapped(lm.model, sites(lm.model, s))]
    ids = torch.arange(5, 45).repeat(25, 1)
    draw = torch.Generator().manual_seed(0)
    with ablated_by_chance(lm.model, modules, unit, 0.2, draw) as shares:
        lm.model(input_ids=ids)
    assert len(shares) == 3 * 4
    deviation = (0.2 * 0.8 / (25 * 40)) ** 0.5
    assert all(abs(share - 0.2) < 4 * deviation for share in shares)
    with (
        torch.no_grad(),
        ablated_by_chance(lm.model, modules, unit, 1.0, draw),
        outputs(modules) as seen,
    ):
        lm.model(input_ids=ids)
    assert all(float((state @ unit).abs().max()) < 1e-4 for state in seen)


def test_padding_changes_no_loss(lm: LM, make_run: MakeRun, watch: Any) -> None:
    method = DeepRefusal(p=0.0, parameters="full", batch_size=4)
    seen = watch(method, lm, make_run(2))
    before = seen.grad(seen.lm.model, seen.bundle)["loss"]
    batch = seen.bundle["safe"]
    wider = replace(
        batch,
        input_ids=torch.nn.functional.pad(batch.input_ids, (0, 3), value=1),
        attention_mask=torch.nn.functional.pad(batch.attention_mask, (0, 3)),
        labels=torch.nn.functional.pad(batch.labels, (0, 3), value=IGNORED),
    )
    bundle = type(seen.bundle)({**seen.bundle.parts, "safe": wider})
    assert seen.grad(seen.lm.model, bundle)["loss"] == pytest.approx(before, rel=1e-5)
