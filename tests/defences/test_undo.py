"""Unlearn, noise, distil: the noise by hand, the limits, and what is paid."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import TWO_PHASES, Budget
from titer.defences._noise import BATCHES, importance, masks, noised, pulled
from titer.defences.npo import NPO
from titer.defences.undo import UNDO, distance
from titer.train.batches import IGNORED, Drawn, collate, cycle, encode_all, pack
from titer.train.environments import environments
from titer.train.objectives import answer_loss, token_losses

MakeRun = Callable[..., Run]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_noise_is_mixed_in_by_its_share(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    none, half, full, again = (copy.deepcopy(lm.model) for _ in range(4))
    noised(none, 0.0, 1.0, 3)
    noised(half, 0.5, 1.0, 3)
    noised(full, 1.0, 1.0, 3)
    noised(again, 1.0, 1.0, 4)
    rows = zip(
        lm.model.named_parameters(),
        *(model.parameters() for model in (none, half, full, again)),
        strict=True,
    )
    for (name, was), *others in rows:
        same, mixed, fresh, other = (weight.detach() for weight in others)
        assert_close(same, was)
        assert_close(mixed, 0.5 * (was + fresh))
        if was.dim() >= 2:
            bound = (6 / sum(was.shape)) ** 0.5
            assert float(fresh.abs().max()) <= bound
            assert_close(fresh.std(), torch.tensor(bound / 3**0.5), rtol=0.15, atol=0)
            assert not torch.equal(fresh, other)
        else:
            assert bool((fresh == float(name.endswith("weight"))).all())
    embedding, head = full.get_input_embeddings(), full.get_output_embeddings()
    tied = lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    assert (embedding.weight is head.weight) == tied


def test_with_all_steps_for_the_first_part_it_is_its_base(lm: LM, make_run: MakeRun) -> None:
    base = NPO(lr=1e-3)
    assert UNDO(base=base, first=1.0)(lm, make_run(3)).digest() == base(lm, make_run(3)).digest()


def test_a_student_without_noise_is_its_teacher(lm: LM, make_run: MakeRun) -> None:
    """There is nothing to learn, and it hardly moves."""
    base, run = NPO(lr=1e-3), make_run(6)
    out = UNDO(base=base, first=0.5, share=0.0, lr=1e-5)(lm, run)
    assert max(run.losses[3:]) < 1e-4
    assert TWO_PHASES in run.flags
    teacher = base(lm, make_run(3))
    for a, b in zip(out.model.parameters(), teacher.model.parameters(), strict=True):
        assert float((a - b).detach().abs().max()) < 1e-4


def test_the_distance_is_zero_at_the_teacher_and_ignores_padding(lm: LM, data: Data) -> None:
    rows = encode_all(lm, data.retain)
    padded = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    packed = pack(lm, [Drawn(tuple(rows))])
    other = tiny_lm(seed=1).model
    assert float(distance(lm.model, lm.model, padded).detach()) < 1e-6
    one, two = (float(distance(lm.model, other, batch).detach()) for batch in (padded, packed))
    assert one > 1e-3
    assert one == pytest.approx(two, rel=1e-3)


def test_a_scrambled_student_learns_what_the_teacher_shows(
    lm: LM, data: Data, make_run: MakeRun
) -> None:
    def loss(model: Any, examples: Any) -> float:
        batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
        return float(answer_loss(model.model, batch).detach())

    knowing = Finetune(lr=1e-2, mix="retain")(lm, make_run(40))
    run = make_run(160)
    out = UNDO(base="none", share=1.0, scale=1.0, first=0.01, lr=1e-2)(knowing, run)
    assert loss(knowing, data.retain) < 0.5
    assert loss(out, data.retain) < 1.0 < loss(lm, data.retain)


def test_both_parts_are_paid_for(lm: LM, make_run: MakeRun) -> None:
    run, first = make_run(4), make_run(2)
    UNDO(base=NPO(batch_size=4), first=0.5, batch_size=99)(lm, run)
    NPO(batch_size=4)(lm, first)
    assert run.spent.steps == 4
    rest = run.spent.tokens - first.spent.tokens
    size = lm.parameters_in_matmuls()
    assert run.spent.flops - first.spent.flops == pytest.approx((6.0 + 2.0) * size * rest)


def test_text_decides_what_is_read(lm: LM, data: Data, make_run: MakeRun) -> None:
    bare = Data(harmful=data.harmful, retain=data.retain)
    with pytest.raises(BadInput, match="no distillation examples"):
        UNDO(text=("unrelated",), first=0.5)(lm, make_run(4, data=bare))
    UNDO(first=0.5)(lm, make_run(4, data=bare))


def _share(chosen: Any) -> float:
    return float(sum(mask.sum() for mask in chosen.values())) / sum(
        mask.numel() for mask in chosen.values()
    )


@pytest.mark.parametrize("where", ["blocks", "embeddings", "head"])
def test_a_part_of_the_model_gets_the_noise_and_the_rest_stays(
    where: Any, lm: LM, make_run: MakeRun
) -> None:
    chosen = masks(where, 0.3, lm, lm, make_run(), 4)
    model, whole = copy.deepcopy(lm.model), copy.deepcopy(lm.model)
    noised(model, 0.7, 1.0, 3, chosen)
    noised(whole, 0.7, 1.0, 3)
    rows = zip(lm.model.named_parameters(), model.parameters(), whole.parameters(), strict=True)
    changed = set()
    for (name, was), mixed, everywhere in rows:
        if not torch.equal(was, mixed):
            changed.add(name)
            assert_close(mixed, everywhere)
    expected = {
        "embeddings": lambda name: "embed" in name,
        "head": lambda name: "lm_head" in name,
        "blocks": lambda name: "layers" in name,
    }[where]
    assert changed
    # A gain of 1 stays 1.
    assert all(expected(name) for name in changed)
    matrices = {n for n, w in lm.model.named_parameters() if w.dim() >= 2 and expected(n)}
    assert matrices <= changed


def test_noise_by_task_vector_goes_where_the_unlearning_went(lm: LM, make_run: MakeRun) -> None:
    moved = lm.clone()
    size = sum(weight.numel() for weight in lm.model.parameters())
    target = next(w for n, w in moved.model.named_parameters() if n.endswith("down_proj.weight"))
    with torch.no_grad():
        target.add_(1.0)
    chosen = masks("task_vector", target.numel() / size, lm, moved, make_run(), 4)
    assert chosen is not None
    name = next(n for n, w in moved.model.named_parameters() if w is target)
    assert bool(chosen[name].all())
    assert _share(chosen) == pytest.approx(target.numel() / size)


def test_importance_is_the_ratio_of_squared_gradients_and_is_charged(
    lm: LM, data: Data, make_run: MakeRun
) -> None:
    run = make_run(3, data=Data(harmful=data.harmful[:4], retain=data.retain[:4]))
    found = importance(lm, run, 4)
    weights = list(lm.model.parameters())

    def squared(examples: Any) -> torch.Tensor:
        batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
        for weight in weights:
            weight.requires_grad_(True)
        parts = torch.autograd.grad(answer_loss(lm.model, batch), weights)
        return torch.cat([part.reshape(-1) for part in parts]).square()

    harmful, kept = squared(data.harmful[:4]), squared(data.retain[:4])
    assert_close(found, harmful / (kept + kept.mean()), rtol=1e-3, atol=1e-6)
    assert run.spent.steps == 0
    assert run.spent.flops == 6.0 * lm.parameters_in_matmuls() * run.spent.tokens > 0
    assert _share(masks("gradient", 0.25, lm, lm, make_run(), 4)) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("where", ["gradient", "penalty"])
def test_attribution_keeps_the_budget(where: Any, lm: LM, make_run: MakeRun) -> None:
    run = make_run(budget=Budget(steps=4, tokens=40))
    UNDO(base=NPO(batch_size=2), first=0.5, where=where, batch_size=2)(lm, run)
    assert run.spent.tokens <= 40


def test_a_penaltys_pull_is_its_gradient_and_is_charged(
    lm: LM, data: Data, make_run: MakeRun
) -> None:
    """That of the product of two halves' gradients, by a double backward."""
    rows = data.harmful[:2]
    run = make_run(3, data=Data(harmful=rows))
    found = pulled(lm, run, "grad_norm", environments("forget"), 2)

    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("eager")
    weights = list(model.parameters())
    draw = next(cycle(lm, rows, batch_size=2, rng=make_run(3).rng("environment 0 order")))
    tokens = int((draw.labels[:, 1:] != IGNORED).sum())
    halves = [
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, weights, create_graph=True)])
        for loss in (
            token_losses(
                model(
                    input_ids=draw.input_ids[k::2], attention_mask=draw.attention_mask[k::2]
                ).logits,
                draw.labels[k::2],
            ).sum()
            for k in (0, 1)
        )
    ]
    # |S|² − Σ|s|² = 2 <s₁, s₂>, and 2 / N² before it; every draw is of the same two rows.
    value = 4.0 / tokens**2 * halves[0].dot(halves[1])
    true = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, weights)])
    assert _alike(found, true.abs()) > 0.999
    assert found.norm() == pytest.approx(float(BATCHES * true.norm()), rel=0.02)
    assert run.spent.steps == 0
    assert run.spent.tokens == BATCHES * draw.tokens
    # Forward and backward on the two halves, and again where the weights are moved to.
    assert run.spent.flops == 2 * 6.0 * lm.parameters_in_matmuls() * run.spent.tokens
    assert not any(w.requires_grad and w.grad is not None for w in lm.model.parameters())


def _alike(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_noise_by_penalty_goes_where_it_pulls(lm: LM, make_run: MakeRun) -> None:
    rows = environments("forget")
    pull = pulled(lm, make_run(), "logit_scale", rows, 4)
    chosen = masks("penalty", 0.2, lm, lm, make_run(), 4, kind="logit_scale", rows=rows)
    assert chosen is not None
    assert _share(chosen) == pytest.approx(0.2, abs=0.01)
    inside = torch.cat([mask.reshape(-1) for mask in chosen.values()]).bool()
    assert float(pull[inside].min()) >= float(pull[~inside].max())
    settings: Any = {"base": "none", "first": 0.25, "batch_size": 4, "where": "penalty"}
    one, two = (
        UNDO(**settings, environments=text)(lm, make_run(4)).digest()
        for text in ("forget", "unrelated")
    )
    assert one != two


def test_invariance_is_charged_and_changes_the_student(lm: LM, make_run: MakeRun) -> None:
    plain, more = make_run(4), make_run(4)
    settings: Any = {"base": "none", "first": 0.25, "lr": 1e-3, "batch_size": 4}
    one = UNDO(**settings)(lm, plain)
    two = UNDO(**settings, invariance=1.0, penalty="grad_norm")(lm, more)
    assert one.digest() != two.digest()
    # Environment batches are read besides, and a Hessian product costs more than a pass.
    assert more.spent.tokens > plain.spent.tokens
    ratio = more.spent.flops / more.spent.tokens
    assert ratio > plain.spent.flops / plain.spent.tokens


@pytest.mark.parametrize(
    "settings",
    [
        {"share": 1.5},
        {"first": 0.0},
        {"lr": 0.0},
        {"scale": -1.0},
        {"text": ()},
        {"base": 3},
        {"fraction": 0.0},
        {"invariance": -1.0},
        {"penalty": "v_rex"},
        {"penalty": "interaction"},
    ],
)
def test_bad_settings_are_refused(settings: Any) -> None:
    with pytest.raises(BadInput):
        UNDO(**settings)
