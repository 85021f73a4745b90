"""Losses against closed forms and central differences. B rows, T tokens, V vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from titer.conformance import tiny_lm
from titer.core.lm import Encoded
from titer.train import objectives
from titer.train.batches import IGNORED, Drawn, collate, pack
from titer.train.objectives import (
    Reduction,
    activation_distance,
    cross_entropy,
    kl_to,
    npo,
    row_losses,
    token_losses,
    unit_target,
)

IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]])
LABELS = torch.tensor([[-100, -100, 3, 4, 5], [-100, 7, 8, -100, -100]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def _by_hand(logits: Tensor) -> dict[int, list[float]]:
    """The loss of each supervised token, by row, with no tensor operation but exp."""
    found: dict[int, list[float]] = {}
    for row in range(2):
        for place in range(1, 5):
            label = int(LABELS[row, place])
            if label != IGNORED:
                values = [math.exp(float(v)) for v in logits[row, place - 1]]
                found.setdefault(row, []).append(-math.log(values[label] / sum(values)))
    return found


def test_the_three_reductions_by_hand(toy: Any) -> None:
    logits = toy(IDS).logits.detach()
    hand = _by_hand(logits)
    assert [len(hand[0]), len(hand[1])] == [3, 2]
    every = hand[0] + hand[1]
    sums = [sum(hand[0]), sum(hand[1])]
    assert float(cross_entropy(logits, LABELS)) == pytest.approx(sum(every) / 5, rel=1e-12)
    assert row_losses(logits, LABELS, "sum").tolist() == pytest.approx(sums, rel=1e-12)
    assert row_losses(logits, LABELS, "mean").tolist() == pytest.approx(
        [sums[0] / 3, sums[1] / 2], rel=1e-12
    )
    assert token_losses(logits, LABELS)[1].tolist()[1:] == pytest.approx([hand[1][1], 0.0, 0.0])


def test_a_batch_is_one_row_of_the_preference(toy: Any) -> None:
    """One log-sigmoid, of the mean over all tokens: another loss where answers are of unlike
    length, and the same on answers of one token."""
    logits, frozen, beta = toy(IDS).logits.detach(), toy(IDS.flip(0)).logits.detach(), 0.5
    ours, theirs = _by_hand(logits), _by_hand(frozen)
    gap = (sum(ours[0] + ours[1]) - sum(theirs[0] + theirs[1])) / 5

    def loss(kind: Any, labels: Tensor) -> float:
        now, then = (row_losses(z[: len(labels)], labels, kind) for z in (logits, frozen))
        return float(npo(now, then, beta))

    assert row_losses(logits, LABELS, "batch").shape == (1,)
    hand = 2 / beta * math.log(1 + math.exp(-beta * gap))
    assert loss("batch", LABELS) == pytest.approx(hand, rel=1e-12)
    assert len({round(loss(kind, LABELS), 6) for kind in get_args(Reduction)}) == 3
    one = LABELS[:1].where(torch.arange(5) == 4, torch.tensor(IGNORED))
    assert loss("sum", one) == pytest.approx(loss("batch", one), rel=1e-12)


def test_no_supervised_token_is_no_loss(toy: Any) -> None:
    none = torch.full_like(LABELS, IGNORED)
    logits = toy(IDS).logits.detach()
    for loss in (
        cross_entropy(logits, none),
        row_losses(logits, none, "mean").sum(),
        kl_to(logits + 1.0, logits, none),
    ):
        assert float(loss) == 0.0


def _every_loss(logits: Tensor, labels: Tensor, hidden: Tensor, mask: Tensor) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    other = torch.randn(2, 5, logits.shape[-1], generator=draw).double()
    other = F.pad(other, (0, 0, 0, logits.shape[1] - 5))
    target = torch.linspace(0.0, 1.0, hidden.shape[-1]).double()
    start = torch.tensor([1.0, 2.0]).double()
    return [
        cross_entropy(logits, labels),
        row_losses(logits, labels, "sum").sum(),
        row_losses(logits, labels, "mean").sum(),
        npo(row_losses(logits, labels, "sum"), start, 0.3),
        npo(row_losses(logits, labels, "mean"), start, 0.3),
        kl_to(other, logits, labels),
        activation_distance(hidden, target, mask),
    ]


def test_padding_and_prompt_ids_of_no_loss_change_nothing(toy: Any) -> None:
    before = _every_loss(toy(IDS).logits, LABELS, toy.hidden(IDS), MASK)
    ids = F.pad(IDS, (0, 3), value=4)
    labels, mask = F.pad(LABELS, (0, 3), value=IGNORED), F.pad(MASK, (0, 3), value=0)
    after = _every_loss(toy(ids).logits, labels, toy.hidden(ids), mask)
    assert_close(after, before, rtol=1e-14, atol=1e-14)


def test_the_label_of_the_first_token_and_the_last_logits_do_not_count(toy: Any) -> None:
    hidden, logits = toy.hidden(IDS), toy(IDS).logits
    before = _every_loss(logits, LABELS, hidden, MASK)
    labels, bent = LABELS.clone(), logits.clone()
    labels[:, 0] = 5
    bent[:, -1] += 100.0
    assert_close(_every_loss(bent, labels, hidden, MASK), before, rtol=0, atol=0)


def test_a_supervised_token_does_count(toy: Any) -> None:
    hidden, logits = toy.hidden(IDS), toy(IDS).logits
    before = _every_loss(logits, LABELS, hidden, MASK)
    labels, mask = LABELS.clone(), MASK.clone()
    labels[1, 3], mask[1, 3] = 9, 1
    after = _every_loss(logits, labels, hidden, mask)
    assert all(not torch.equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("which", range(7))
def test_gradients_match_central_differences(toy: Any, which: int) -> None:
    def loss() -> Tensor:
        return _every_loss(toy(IDS).logits, LABELS, toy.hidden(IDS), MASK)[which]

    weights = [toy.embed, toy.mix] if which == 6 else list(toy.parameters())
    grads = torch.autograd.grad(loss(), weights)
    draw = torch.Generator().manual_seed(2)
    step = 1e-6
    for _ in range(3):
        way = [torch.randn(w.shape, generator=draw).double() for w in weights]
        sides: list[float] = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for weight, direction in zip(weights, way, strict=True):
                    weight += sign * step * direction
                sides.append(float(loss().detach()))
                for weight, direction in zip(weights, way, strict=True):
                    weight -= sign * step * direction
        slope = sum(float((g * d).sum()) for g, d in zip(grads, way, strict=True))
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(slope, rel=1e-6, abs=1e-9)


# -- NPO ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 5.0])
def test_npo_starts_as_gradient_ascent_for_every_beta(toy: Any, beta: float) -> None:
    weights = list(toy.parameters())
    rows = row_losses(toy(IDS).logits, LABELS, "sum")
    pushed = torch.autograd.grad(npo(rows, rows.detach(), beta), weights, retain_graph=True)
    likelihood = torch.autograd.grad(-rows.mean(), weights)
    assert_close(pushed, likelihood, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_npo_gradient_is_twice_the_sigmoid_and_fades(beta: float) -> None:
    gaps = torch.tensor([-3.0, 0.0, 4.0, 1e4]).double()
    rows = (gaps + 2.0).requires_grad_(True)
    (grad,) = torch.autograd.grad(npo(rows, torch.full((4,), 2.0).double(), beta), rows)
    assert_close(grad, -2.0 * torch.sigmoid(-beta * gaps) / 4, rtol=1e-12, atol=0)
    assert abs(float(grad[-1])) < 1e-40


def test_npo_value_by_hand() -> None:
    rows, start = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
    hand = -(2 / 0.5) * (math.log(1 / (1 + math.exp(-1.0))) + math.log(0.5)) / 2
    assert float(npo(rows, start, 0.5)) == pytest.approx(hand, rel=1e-6)


def test_npo_nears_gradient_ascent_as_beta_vanishes() -> None:
    rows = torch.tensor([7.0, 1.0]).double().requires_grad_(True)
    (grad,) = torch.autograd.grad(npo(rows, torch.zeros(2).double(), 1e-4), rows)
    assert_close(grad, torch.full((2,), -0.5).double(), rtol=1e-3, atol=0)


# -- divergence and targets ---------------------------------------------------------------------


def test_kl_is_zero_at_equality_positive_elsewhere_and_right(toy: Any) -> None:
    logits = toy(IDS).logits.detach()
    assert float(kl_to(logits, logits, LABELS)) == 0.0
    draw = torch.Generator().manual_seed(3)
    for _ in range(5):
        other = torch.randn(logits.shape, generator=draw).double()
        value = float(kl_to(other, logits, LABELS))
        assert value > 0
        p, q = F.softmax(other, -1), F.softmax(logits, -1)
        each = (p * (p / q).log()).sum(-1)[:, :-1][LABELS[:, 1:] != IGNORED]
        assert value == pytest.approx(float(each.mean()), rel=1e-12)


def test_kl_gradient_vanishes_at_equality(toy: Any) -> None:
    logits = toy(IDS).logits
    grads = torch.autograd.grad(
        kl_to(logits.detach(), logits, LABELS), list(toy.parameters()), allow_unused=True
    )
    assert all(float(grad.abs().max()) < 1e-15 for grad in grads if grad is not None)


def test_distance_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 5.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    hand = (((1 - 0) ** 2 + (2 - 1) ** 2) / 2 + ((3 - 0) ** 2 + (5 - 1) ** 2) / 2) / 2
    assert float(activation_distance(hidden, torch.tensor([0.0, 1.0]), mask)) == hand
    assert float(activation_distance(hidden, hidden, mask)) == 0.0


def test_a_unit_target_is_drawn_in_the_positive_orthant() -> None:
    target = unit_target(512, 1)
    assert float(target.norm()) == pytest.approx(1.0, abs=1e-6)
    assert float(target.min()) >= 0.0
    # A Gaussian's absolute values would have mean over root mean square 0.80; uniform has 0.87.
    assert float(target.mean() * 512**0.5) == pytest.approx(3**0.5 / 2, abs=0.03)
    assert torch.equal(target, unit_target(512, 1))
    assert not torch.equal(target, unit_target(512, 2))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(half: torch.dtype, toy: Any) -> None:
    logits = toy(IDS).logits.detach().to(half)
    loss: dict[str, Callable[[Tensor], Tensor]] = {
        "ce": lambda x: cross_entropy(x, LABELS),
        "kl": lambda x: kl_to(x + 1, x, LABELS),
        "distance": lambda x: activation_distance(x, x[0, 0], MASK),
    }
    for name, value in loss.items():
        assert value(logits).dtype == torch.float32, name
        assert value(logits.double()).dtype == torch.float64, name


@pytest.mark.parametrize("heads", [(True, True), (True, False), (False, False)])
def test_the_divergence_of_answers_is_that_of_all_logits(
    heads: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed where answers are, packed or padded, and where only one of the heads allows it."""
    one, two = tiny_lm(seed=0), tiny_lm(seed=1)
    known = dict(zip((one.model, two.model), heads, strict=True))
    monkeypatch.setattr(objectives, "splits", known.__getitem__)
    rows = tuple((str(n), Encoded(tuple(range(1, 5 + n)), 2 + n // 3)) for n in range(6))
    padded = collate(rows, one.tokenizer.pad_token_id, one.device)
    then, now = (lm.model(**padded.inputs(), use_cache=False).logits for lm in (one, two))
    wanted = kl_to(then.detach(), now, padded.labels)
    (slope,) = torch.autograd.grad(wanted, two.model.get_output_embeddings().weight)
    for batch in (padded, pack(one, [Drawn(rows)])):
        found = objectives.answer_kl(one.model, two.model, batch)
        assert_close(found, wanted)
        (same,) = torch.autograd.grad(found, two.model.get_output_embeddings().weight)
        assert_close(same, slope, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        assert float(objectives.answer_kl(one.model, one.model, padded)) == pytest.approx(
            0, abs=1e-7
        )
