"""Locks: what each keeps, its numbers in closed form, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.attacks.fold import Fold
from titer.attacks.inject_block import with_block
from titer.attacks.plain_modules import PlainModules
from titer.attacks.public_base import matched
from titer.conformance import ARCHITECTURES, Architecture, tiny_data, tiny_lm
from titer.core import catalogue
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.backward_lock import BackwardLock
from titer.defences.gain_lock import GainLock
from titer.defences.keyed_basis import KeyedBasis, turned
from titer.defences.spectral_brake import SpectralBrake, braked
from titer.nn.reparametrise import heads, norms
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

MakeRun = Callable[..., Run]
IDS = torch.arange(24).view(2, 12)
LOCKS: dict[str, Any] = {
    "gain_lock": GainLock(),
    "spectral_brake": SpectralBrake(),
    "backward_lock": BackwardLock(),
}


@torch.no_grad()
def _logits(lm: LM) -> torch.Tensor:
    return lm.model(input_ids=IDS, use_cache=False).logits


def _loss(lm: LM, examples: tuple[Example, ...]) -> float:
    """The mean loss on answers, nats a token."""
    rows = encode_all(lm, examples)
    with torch.no_grad():
        return float(answer_loss(lm.model, collate(rows, lm.tokenizer.pad_token_id, lm.device)))


def _harm(lm: LM, run: Run) -> float:
    return _loss(lm, run.data.harmful)


def _both(lm: LM, run: Run) -> float:
    """What an attacker wants small: the loss on harmful answers, and that on what was known."""
    return _harm(lm, run) + _loss(lm, run.data.retain)


@pytest.fixture(scope="module")
def taught() -> LM:
    """A tiny Llama that knows its benign text and none of the hazard."""
    run = Run(budget=Budget(steps=80), data=tiny_data(), seed=5)
    return Finetune(lr=1e-2, mix="retain", schedule="cosine", batch_size=14)(tiny_lm(), run)


# -- what they keep, in numbers -------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_gain_lock_keeps_every_bit_and_spreads_the_scales(
    architecture: Architecture, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    out = GainLock(bits=10)(lm, make_run(0))
    assert torch.equal(_logits(out), _logits(lm))
    for (now, readers), (was, before) in zip(norms(out), norms(lm.clone()), strict=True):
        scale = now.weight / was.weight
        assert set(scale.abs().log2().tolist()) == {-10.0, 10.0}
        for ours, theirs in zip(readers, before, strict=True):
            assert torch.equal(ours * scale, theirs)


def test_a_brake_in_closed_form() -> None:
    """``diag(4, 2, 1)`` with its largest value times 10, and any matrix."""
    weight = torch.diag(torch.tensor([4.0, 2.0, 1.0]))
    stretch, back = braked(weight, top=1, alpha=10.0)
    assert_close(stretch @ weight.double(), torch.diag(torch.tensor([40.0, 2.0, 1.0])).double())
    assert_close(back, torch.diag(torch.tensor([0.1, 1.0, 1.0])).double())
    drawn = torch.randn(6, 20, generator=torch.Generator().manual_seed(0)).double()
    stretch, back = braked(drawn, top=2, alpha=1e4)
    before, after = (torch.linalg.svdvals(one) for one in (drawn, stretch @ drawn))
    assert_close(after, torch.cat([1e4 * before[:2], before[2:]]), rtol=1e-9, atol=1e-9)
    assert_close(back @ stretch @ drawn, drawn)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_brake_keeps_the_function_and_stretches_half_of_each_head(
    architecture: Architecture, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    out = SpectralBrake()(lm, make_run(0))
    assert_close(_logits(out), _logits(lm), rtol=0, atol=2e-3)
    for now, was in zip(heads(out), heads(lm.clone()), strict=True):
        before, after = (torch.linalg.svdvals(one.values.double()) for one in (was, now))
        top = len(before) // 2
        assert_close(after[:top], 1e4 * before[:top], rtol=1e-4, atol=0)


def test_the_brake_spares_blocks_that_the_seed_leaves_out(make_run: MakeRun) -> None:
    lm = tiny_lm()
    out = SpectralBrake(layers=0.5)(lm, make_run(0))
    changed = {
        now.layer
        for now, was in zip(heads(out), heads(lm), strict=True)
        if not torch.equal(now.values, was.values)
    }
    assert len(changed) == 2


def test_half_precision_would_be_destroyed_and_is_refused(make_run: MakeRun) -> None:
    lm = tiny_lm()
    half = LM(lm.clone().model.bfloat16(), lm.tokenizer)
    with pytest.raises(BadInput, match="bfloat16"):
        SpectralBrake()(half, make_run(0))


@pytest.mark.parametrize("basis", ["orthogonal", "permutation", "two-sided"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_keyed_basis_is_wrong_without_its_key_and_right_with_it(
    architecture: Architecture, basis: Any, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    run = make_run(0)
    out = KeyedBasis(basis=basis)(lm, run)
    assert float((_logits(out) - _logits(lm)).abs().max()) > 1e-2
    key = run.rng("basis").getrandbits(62)
    assert_close(_logits(turned(out, basis, key, back=True)), _logits(lm), rtol=0, atol=1e-5)
    assert float((_logits(turned(out, basis, key + 1, back=True)) - _logits(lm)).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gain_lock", {"bits": 0}),
        ("spectral_brake", {"alpha": 0.5}),
        ("spectral_brake", {"top": 1.0}),
        ("policy_lock", {"rank": 0}),
        ("keyed_basis", {"basis": "none"}),
    ],
)
def test_bad_knobs_are_refused(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        catalogue.build("defence", name, fields)


def test_every_lock_says_that_it_is_one_and_how_it_is_bypassed() -> None:
    locks = [card for card in catalogue.summaries("defence") if card.family == "lock"]
    assert {card.name for card in locks} >= {*LOCKS, "keyed_basis", "policy_lock"}
    for name in (*LOCKS, "keyed_basis", "policy_lock"):
        said = catalogue.card("defence", name).build.__doc__ or ""
        for word in ("Guarantee:", "Not guaranteed", "Bypass:"):
            assert " ".join(said.split()).lower().count(word.lower()) >= 1, (name, word)


# -- each control against what should break it ----------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "bypass"),
    [
        ("gain_lock", Fold),
        ("spectral_brake", Fold),
        ("backward_lock", Fold),
        ("backward_lock", PlainModules),
    ],
)
def test_a_control_stops_a_plain_fine_tune_and_not_its_bypass(
    lock: str, bypass: Any, taught: LM, make_run: MakeRun
) -> None:
    """Five steps: without the lock they teach and keep, with it they teach nothing or destroy."""
    run, steps, rate = make_run(0), 5, 1e-3
    locked = LOCKS[lock](taught, run)
    assert _both(locked, run) == pytest.approx(_both(taught, run), rel=1e-2)
    free = _both(Finetune(lr=rate)(taught, make_run(steps)), run)
    assert free < _both(taught, run) - 1
    assert _both(Finetune(lr=rate)(locked, make_run(steps)), run) > free + 1
    assert _both(bypass(lr=rate)(locked, make_run(steps)), run) == pytest.approx(free, rel=0.05)


@pytest.mark.parametrize("basis", ["orthogonal", "permutation"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_public_relative_undoes_a_keyed_basis(
    architecture: Architecture, basis: Any, make_run: MakeRun
) -> None:
    secret = tiny_lm(architecture)
    relative = Finetune(lr=1e-4)(secret, make_run(5))
    locked = KeyedBasis(basis=basis)(secret, make_run(0))
    back = matched(locked, relative)
    lost = float((_logits(locked) - _logits(secret)).abs().max())
    left = float((_logits(back) - _logits(secret)).abs().max())
    assert left < (1e-5 if basis == "permutation" else 0.25 * lost)


def test_a_relative_of_another_shape_is_refused() -> None:
    with pytest.raises(BadInput, match="not the same matrices"):
        matched(tiny_lm("llama"), tiny_lm("gpt2"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_block_changes_nothing_until_it_trains(
    architecture: Architecture, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    out = with_block(lm, torch.Generator().manual_seed(0))
    assert torch.equal(_logits(out), _logits(lm))
    assert out.model.config.num_hidden_layers == lm.model.config.num_hidden_layers + 1
    attack = catalogue.build("attack", "inject_block", {"lr": 1e-2})
    run = make_run(10)
    trained = attack(lm, run)
    assert _harm(trained, run) < _harm(lm, run)
    before = dict(lm.model.named_parameters())
    for name, weight in trained.model.named_parameters():
        if name in before:
            assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("lock", ["gain_lock", "spectral_brake"])
def test_a_block_of_ones_own_trains_as_if_nothing_were_locked(
    lock: str, taught: LM, make_run: MakeRun
) -> None:
    run, attack = make_run(0), catalogue.build("attack", "inject_block", {"lr": 3e-3})
    free = _both(attack(taught, make_run(5)), run)
    assert free < _both(taught, run) - 0.1
    assert _both(attack(LOCKS[lock](taught, run), make_run(5)), run) == pytest.approx(
        free, rel=0.02
    )


def test_a_bypass_gains_nothing_where_nothing_was_locked(taught: LM, make_run: MakeRun) -> None:
    run = make_run(0)
    free = _both(Finetune(lr=1e-3)(taught, make_run(5)), run)
    assert _both(Fold(lr=1e-3)(taught, make_run(5)), run) == pytest.approx(free, rel=0.05)
    assert _both(PlainModules(lr=1e-3)(taught, make_run(5)), run) == free


def test_a_lock_is_a_stage_of_a_chain(make_run: MakeRun) -> None:
    from titer.core.method import chain

    steps = 4
    run = Run(budget=Budget(steps=steps), data=make_run(0).data)
    out = chain(catalogue.build("defence", "npo"), GainLock())(tiny_lm(), run)
    assert run.spent.steps == steps // 2
    assert not torch.equal(_logits(out), _logits(tiny_lm()))
