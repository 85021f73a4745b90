"""WGA, SimNPO, random mapping, random smoothing: their losses by hand and their limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.grad_diff import GradDiff
from titer.defences.npo import NPO
from titer.defences.random_mapping import RandomMapping
from titer.defences.random_smoothing import RandomSmoothing
from titer.defences.simnpo import SimNPO
from titer.defences.wga import WGA
from titer.train.batches import IGNORED, collate, encode_all
from titer.train.grads import displaced, flat, gradient, trained
from titer.train.objectives import (
    cross_entropy,
    mapping_distance,
    row_losses,
    simnpo,
    token_losses,
    wga,
)

MakeRun = Callable[..., Run]

IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [3, 3, 9, 8, 7, 1]])
LABELS = IDS.masked_fill(torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 1, 1]]).bool(), IGNORED)


# -- WGA --------------------------------------------------------------------------------------


def test_weighted_ascent_at_beta_0_is_plain_ascent(toy_logits: torch.Tensor) -> None:
    assert_close(wga(toy_logits, LABELS, 0.0), -cross_entropy(toy_logits, LABELS))


def test_the_weight_of_a_token_is_its_confidence_and_constant(toy_logits: torch.Tensor) -> None:
    losses = token_losses(toy_logits, LABELS)
    confidence = (-losses).exp().detach() ** 2.0
    want = -(confidence * losses).sum() / 5
    assert_close(wga(toy_logits, LABELS, 2.0), want)
    (ours,) = torch.autograd.grad(wga(toy_logits, LABELS, 2.0), toy_logits, retain_graph=True)
    (theirs,) = torch.autograd.grad(want, toy_logits)
    assert_close(ours, theirs)  # through the weight there is no gradient


def test_a_forgotten_token_no_longer_pulls() -> None:
    logits = torch.zeros(1, 2, 11).double()
    logits[0, 0, 4] = -60.0
    logits.requires_grad_()
    labels = torch.tensor([[IGNORED, 4]])
    wga(logits, labels, 1.0).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-20


def test_wga_without_beta_is_grad_diff(lm: LM, make_run: MakeRun) -> None:
    common = {"lr": 1e-3, "batch_size": 5}
    one, two = WGA(beta=0.0, **common)(lm, make_run(3)), GradDiff(**common)(lm, make_run(3))
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert WGA(**common)(lm, make_run(3)).digest() != one.digest()


# -- SimNPO -----------------------------------------------------------------------------------


def test_simnpo_by_hand_and_its_limit() -> None:
    rows = torch.tensor([0.5, 2.0]).double().requires_grad_()
    want = -(2 / 3.0) * torch.nn.functional.logsigmoid(3.0 * (rows - 0.25)).mean()
    assert_close(simnpo(rows, 3.0, 0.25), want)
    (slope,) = torch.autograd.grad(simnpo(rows, 1e-6), rows)
    assert_close(slope, torch.tensor([-0.5, -0.5]).double(), rtol=1e-5, atol=0)  # plain ascent


def test_a_row_said_twice_weighs_the_same() -> None:
    """Per-token means do not grow with the answer; sums would."""
    logits = torch.randn(1, 4, 11, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([[IGNORED, 3, 5, 7]])
    twice = torch.cat([logits[:, :3], logits[:, :3], logits[:, 3:]], 1)
    both = torch.tensor([[IGNORED, 3, 5, 7, 3, 5, 7]])
    ends = [row_losses(twice, both, "mean"), row_losses(logits, labels, "mean")]
    assert_close(simnpo(ends[0], 2.5), simnpo(ends[1], 2.5))


def test_simnpo_never_asks_the_start(lm: LM, make_run: MakeRun) -> None:
    asked = 0

    def count(*_: Any) -> None:
        nonlocal asked
        asked += 1

    handle = lm.model.register_forward_pre_hook(count)
    # Copies made inside carry the hook along; the start itself must stay silent.
    terms = SimNPO().terms(lm, make_run(1))
    other = tiny_lm()
    batch = collate(encode_all(lm, make_run(1).data.harmful), 1, lm.device)
    terms.forget(other.model, batch)
    terms.retain(other.model, batch)
    NPO().terms(lm, make_run(1)).forget(other.model, batch)
    handle.remove()
    assert asked == 1  # NPO's reference, and nothing of SimNPO's


# -- random mapping ---------------------------------------------------------------------------


def test_mapping_distance_by_hand() -> None:
    hidden = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [5.0, 5.0]]])
    targets = torch.tensor([[[4.0, 3.0], [0.0, 2.0], [1.0, 1.0]]])
    mask = torch.tensor([[1, 1, 0]])
    want = ((1 - 24 / 25) + (1 - 0)) / 2
    assert_close(mapping_distance(hidden, targets, mask), torch.tensor(want))
    assert_close(mapping_distance(hidden, -targets, mask), torch.tensor(want))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_of_the_hazard_align_and_text_is_kept(architecture: Any, make_run: MakeRun) -> None:
    lm, run = tiny_lm(architecture), make_run(40)
    method = RandomMapping(lr=1e-2, optimiser="adamw")
    out = method(lm, run)
    assert run.losses[-1] < 0.7 * run.losses[0]
    terms = method.terms(lm, make_run(1))
    batch = collate(encode_all(lm, run.data.harmful), lm.tokenizer.pad_token_id, lm.device)
    before, after = (float(terms.forget(m.model, batch).detach()) for m in (lm, out))
    assert after < 0.7 * before
    assert before > 0.5


def test_the_target_belongs_to_the_token(lm: LM, make_run: MakeRun) -> None:
    """Rows that differ in order alone have the same targets, in that order."""
    terms = RandomMapping().terms(lm, make_run(1))
    again = RandomMapping().terms(lm, make_run(1))
    rows = encode_all(lm, make_run(1).data.harmful)
    pad = lm.tokenizer.pad_token_id
    one, two = collate(rows, pad, lm.device), collate(rows[::-1], pad, lm.device)
    assert_close(terms.forget(lm.model, one), again.forget(lm.model, two))


# -- random smoothing -------------------------------------------------------------------------


@pytest.mark.parametrize("base", [NPO, GradDiff])
def test_without_noise_it_is_its_base_to_the_bit(base: Any, lm: LM, make_run: MakeRun) -> None:
    plain = base(lr=1e-3)(lm, make_run(3))
    none, some = (
        RandomSmoothing(base=base(lr=1e-3), sigma=sigma)(lm, make_run(3)) for sigma in (0.0, 1e-2)
    )
    assert none.digest() == plain.digest() != some.digest()


def test_the_forget_gradient_is_the_mean_over_noisy_weights(
    lm: LM, make_run: MakeRun, watch: Any
) -> None:
    base, run = GradDiff(), make_run(1)
    seen = watch(RandomSmoothing(base=base, sigma=0.02, draws=2), lm, run)
    got = flat(list(seen.gradient().values()))
    terms, weights, model = base.terms(lm, run), trained(seen.lm.model), seen.lm.model
    draw = torch.Generator().manual_seed(run.rng("noise").getrandbits(62))
    want = gradient(terms.retain(model, seen.bundle["retain"]), weights)
    for _ in range(2):
        noise = torch.randn(want.shape, generator=draw)
        with displaced(weights, noise, 0.02):
            want += gradient(terms.forget(model, seen.bundle["forget"]), weights) / 2
    assert_close(got, want, rtol=1e-3, atol=1e-5)


def test_every_draw_is_charged(lm: LM, make_run: MakeRun) -> None:
    base = NPO(batch_size=99)
    plain, run = make_run(1), make_run(1)
    base(lm, plain)
    RandomSmoothing(base=base, draws=4)(lm, run)
    rows = [lm.encode(example.prompt, example.answer) for example in run.data.harmful]
    tokens = sum(len(row.ids) for row in rows)
    more = 3 * (6.0 + 2.0) * lm.parameters_in_matmuls() * tokens
    assert run.spent.flops - plain.spent.flops == pytest.approx(more)


@pytest.mark.parametrize(
    "make",
    [
        lambda: WGA(beta=-1.0),
        lambda: SimNPO(beta=0.0),
        lambda: RandomMapping(lr=0.0),
        lambda: RandomSmoothing(sigma=-1.0),
        lambda: RandomSmoothing(draws=0),
        lambda: RandomSmoothing(base="undo"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(BadInput):
        make()


@pytest.fixture
def toy_logits() -> torch.Tensor:
    draw = torch.Generator().manual_seed(4)
    return torch.randn(2, 6, 11, generator=draw).double().requires_grad_()
