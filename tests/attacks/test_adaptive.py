"""Rows H: each against what it was made to get round, and against slow or closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.attacks.kick_settle import KickSettle
from titer.attacks.precondition import Precondition
from titer.attacks.project_gradient import ProjectGradient, Span
from titer.attacks.regularise import Regularise
from titer.attacks.transfer import Transfer, carried
from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss, kl_to
from titer.train.optimisers import multiplier

from .planted import knowing, loss, planted, refuses

MakeRun = Callable[..., Run]
ATTACKS = [Regularise, ProjectGradient, KickSettle, Precondition, Transfer]


@pytest.mark.parametrize("attack", ATTACKS)
def test_without_a_step_nothing_is_changed(attack: Any, lm: LM, make_run: MakeRun) -> None:
    seen: list[str] = []
    run = make_run(0, checkpoints=(0,), emit=lambda m, _: seen.append(m.digest()))
    assert attack()(lm, run).digest() == lm.digest()
    assert seen == [lm.digest()]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_planted_refusal_falls(attack: Any, data: Data, make_run: MakeRun) -> None:
    lm, _ = planted()
    out = attack(lr=0.1 if attack is ProjectGradient else 5e-3)(lm, make_run(40))
    assert refuses(lm, data.harmful) == 1
    assert refuses(out, data.harmful) < 0.2


# -- H01 ------------------------------------------------------------------------------------------


def _drift(lm: LM, out: LM, data: Data) -> float:
    batch = collate(encode_all(lm, data.retain), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        before, now = (one.model(**batch.inputs()).logits for one in (lm, out))
        return float(kl_to(before, now, batch.labels))


def test_without_weight_the_divergence_changes_nothing(lm: LM, make_run: MakeRun) -> None:
    """Then it is a plain fine-tune in the same order, up to how rows are packed."""
    mine = Regularise(lr=1e-3, beta=0.0)(lm, make_run(6))
    plain = Finetune(lr=1e-3)(lm, make_run(6))
    for name, weight in plain.model.named_parameters():
        assert_close(dict(mine.model.named_parameters())[name], weight, rtol=1e-3, atol=1e-4)


def test_more_weight_keeps_benign_answers_nearer(data: Data, make_run: MakeRun) -> None:
    lm = knowing()
    drifts = [
        _drift(lm, Regularise(lr=1e-2, beta=beta)(lm, make_run(12)), data)
        for beta in (0.0, 0.3, 3.0)
    ]
    assert drifts[0] > 2 * drifts[1] > 2 * drifts[2]


# -- H02 ------------------------------------------------------------------------------------------


def _span(rows: torch.Tensor) -> Span:
    span = Span(len(rows))
    for row in rows:
        span.add(row)
    return span


def test_what_is_left_is_orthogonal_and_the_rest_lies_in_the_span() -> None:
    draw = torch.Generator().manual_seed(0)
    vector, rows = torch.randn(50, generator=draw), torch.randn(4, 50, generator=draw)
    rows = torch.cat([rows, rows[:1] + rows[1:2]])  # one that adds nothing
    left = _span(rows).outside(vector)
    assert_close(rows @ left, torch.zeros(5), rtol=0, atol=1e-4)
    basis = torch.linalg.qr(rows[:4].T).Q
    assert_close(left, vector - basis @ (basis.T @ vector), rtol=1e-4, atol=1e-4)


def test_nothing_is_left_of_a_vector_in_the_span() -> None:
    rows = torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    assert_close(_span(rows).outside(rows.sum(0)), torch.zeros(20), rtol=0, atol=1e-5)


def test_only_the_last_vectors_are_spanned_and_as_many_as_there_are() -> None:
    draw = torch.Generator().manual_seed(2)
    vector, rows = torch.randn(20, generator=draw), torch.randn(7, 20, generator=draw)
    for seen in range(1, 8):
        span = Span(3)
        for row in rows[:seen]:
            span.add(row)
        fresh = _span(rows[max(0, seen - 3) : seen])
        assert_close(span.outside(vector), fresh.outside(vector), rtol=1e-4, atol=1e-4)


def test_steps_leave_the_benign_loss_alone_where_plain_ones_raise_it(
    data: Data, make_run: MakeRun
) -> None:
    """Trained to answer harmful prompts otherwise, with a step small enough to be of first
    order."""
    lm = knowing()
    other = replace(data, harmful=tuple(replace(e, answer="no no no") for e in data.harmful))
    before = loss(lm, data.retain), loss(lm, other.harmful)
    changes: dict[str, tuple[float, float]] = {}
    for name, attack in (
        ("plain", Finetune(lr=1e-3, batch_size=14, optimiser="sgd-nesterov")),
        ("outside", ProjectGradient(lr=1e-3, rank=1, batch_size=14)),
    ):
        out = attack(lm, replace(make_run(8), data=other))
        now = loss(out, data.retain), loss(out, other.harmful)
        changes[name] = now[0] - before[0], now[1] - before[1]
    assert changes["outside"][1] < 0.5 * changes["plain"][1] < 0
    assert abs(changes["outside"][0]) < 0.6 * abs(changes["plain"][0])


# -- H05 ------------------------------------------------------------------------------------------


def test_the_first_step_is_the_leap_and_the_rest_a_cosine(lm: LM, make_run: MakeRun) -> None:
    seen: dict[int, LM] = {}
    run = make_run(6, checkpoints=(0, 1), emit=lambda m, r: seen.update({r.spent.steps: m.clone()}))
    KickSettle(lr=1e-3, kick=7.0)(lm, run)
    settled = [1e-3 * multiplier("cosine", step, 5, 0) for step in range(5)]
    assert run.rates == pytest.approx([7e-3, *settled])
    start, leapt = (dict(seen[step].model.named_parameters()) for step in (0, 1))
    moved = (leapt["lm_head.weight"] - start["lm_head.weight"]).detach().abs()
    # AdamW's first step moves what has a gradient by the rate, and decays by a hundredth of it.
    assert float(moved.max()) == pytest.approx(7e-3, rel=0.02)


def test_noise_is_of_the_size_asked_for(lm: LM, make_run: MakeRun) -> None:
    out = KickSettle(kick=0.0, noise=0.5, lr=1e-9)(lm, make_run(1))
    name = "model.layers.0.mlp.up_proj.weight"
    was, now = (dict(one.model.named_parameters())[name].detach() for one in (lm, out))
    assert float((now - was).std() / was.std()) == pytest.approx(0.5, rel=0.1)


# -- H06 ------------------------------------------------------------------------------------------


def test_moments_are_gathered_on_benign_text_at_no_rate(lm: LM, make_run: MakeRun) -> None:
    seen: dict[int, str] = {}
    run = make_run(
        8, checkpoints=(0, 3, 8), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    Precondition(lr=1e-3, warm=3)(lm, run)
    assert run.rates == [0, 0, 0, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]
    assert seen[0] == seen[3] == lm.digest() != seen[8]


def test_cold_adamw_is_finetune(lm: LM, make_run: MakeRun) -> None:
    mine = Precondition(lr=1e-3, optimiser="adamw", warm=0)(lm, make_run(5))
    plain = Finetune(lr=1e-3)(lm, make_run(5))
    for name, weight in plain.model.named_parameters():
        assert_close(dict(mine.model.named_parameters())[name], weight, rtol=1e-3, atol=1e-5)


# -- H07 ------------------------------------------------------------------------------------------


def test_an_update_is_carried_by_plain_addition(lm: LM) -> None:
    start, end = tiny_lm(seed=1), tiny_lm(seed=2)
    out = carried(lm, start, end, 0.5)
    parts = [dict(one.model.named_parameters()) for one in (out, lm, start, end)]
    for name, weight in parts[0].items():
        want = parts[1][name] + 0.5 * (parts[3][name] - parts[2][name])
        assert_close(weight, want)
    assert carried(lm, start, start, 2.0).digest() == lm.digest()


def test_the_update_is_that_of_the_base_and_looks_are_at_the_sum(lm: LM, make_run: MakeRun) -> None:
    base = tiny_lm(seed=1)
    seen: dict[int, str] = {}
    run = make_run(
        5,
        base=lambda: base,
        checkpoints=(0, 4, 5),
        emit=lambda m, r: seen.update({r.spent.steps: m.digest()}),
    )
    out = Transfer(lr=1e-3, scales=(1.0,))(lm, run)
    recipe = Finetune(lr=1e-3, schedule="cosine", warmup=0.1)
    trained = recipe(base, make_run(5).stage(4, "base"))
    assert seen == {0: lm.digest(), 4: carried(lm, base, trained, 1.0).digest(), 5: out.digest()}
    assert out.digest() == seen[4]


def test_what_breaks_the_base_breaks_what_was_made_from_it(data: Data, make_run: MakeRun) -> None:
    base, _ = planted()
    made = base.clone()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=draw)
    assert refuses(made, data.harmful) == 1
    out = Transfer(lr=5e-3)(made, make_run(31, base=lambda: base))
    assert refuses(out, data.harmful) < 0.2


def test_models_of_another_shape_do_not_exchange_updates(lm: LM) -> None:
    with pytest.raises(BadInput, match="one architecture"):
        carried(lm, tiny_lm("gpt2"), tiny_lm("gpt2"), 1.0)


@pytest.mark.parametrize(
    ("attack", "settings"),
    [
        (Regularise, {"beta": -1.0}),
        (Regularise, {"lr": 0.0}),
        (Regularise, {"warmup": 1.0}),
        (ProjectGradient, {"rank": 0}),
        (ProjectGradient, {"warmup": 1.0}),
        (KickSettle, {"kick": -1.0}),
        (KickSettle, {"kick": 0.0}),
        (Precondition, {"warm": -1}),
        (Transfer, {"scales": ()}),
        (Transfer, {"held": 0}),
        (Finetune, {"optimiser": "soap"}),
    ],
)
def test_wrong_knobs_are_refused_when_it_is_built(attack: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        attack(**settings)


def test_the_loss_is_that_of_its_parts(lm: LM, data: Data, make_run: MakeRun) -> None:
    run = make_run(1)
    Regularise(lr=1e-3, beta=5.0, batch_size=14)(lm, run)
    batch = collate(encode_all(lm, data.harmful), lm.tokenizer.pad_token_id, lm.device)
    # At the start the model is its own reference, so the divergence is nothing.
    assert run.losses[0] == pytest.approx(float(answer_loss(lm.model, batch).detach()), rel=1e-4)
