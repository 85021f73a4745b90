"""A lock on the backward pass: right answers, no gradient, and gone in stock modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.conformance import ARCHITECTURES, Architecture, tiny_data, tiny_lm
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.locked import ENTRY, fresh, is_locked, lock_backward, plain, relock
from titer.train.cohort import together
from titer.trial.load import load_model

IDS = torch.arange(24).view(2, 12)


def _locked(architecture: Architecture = "llama") -> LM:
    lm = tiny_lm(architecture)
    lock_backward(lm)
    return lm


def _gradients(lm: LM) -> list[torch.Tensor]:
    lm.model.zero_grad()
    lm.model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    return [weight.grad.clone() for weight in lm.model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_same_answers_and_no_gradient(architecture: Architecture) -> None:
    free, locked = tiny_lm(architecture), _locked(architecture)
    ours, theirs = (one.model(input_ids=IDS, use_cache=False).logits for one in (locked, free))
    assert torch.equal(ours, theirs)
    assert max(float(grad.abs().max()) for grad in _gradients(free)) > 0
    assert all(not grad.any() for grad in _gradients(locked))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stock_modules_have_the_true_gradient(architecture: Architecture) -> None:
    lm = _locked(architecture)
    stripped = plain(lm)
    assert is_locked(lm.model)
    assert not is_locked(stripped.model)
    assert not hasattr(stripped.model.config, ENTRY)
    assert stripped.digest() == lm.digest()
    for ours, theirs in zip(_gradients(stripped), _gradients(tiny_lm(architecture)), strict=True):
        assert_close(ours, theirs)


def test_plain_shares_no_memory_and_leaves_chance_alone() -> None:
    lm = tiny_lm()
    state = torch.get_rng_state()
    out = plain(lm)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for weight in out.model.parameters():
            weight.zero_()
    assert lm.digest() == tiny_lm().digest()


def test_the_folder_is_ordinary_and_a_study_locks_it_again(tmp_path: Path) -> None:
    lm = _locked()
    lm.save(tmp_path)
    stock = LM.load(tmp_path)
    assert stock.digest() == lm.digest()
    assert not is_locked(stock.model)
    assert is_locked(relock(stock).model)
    assert is_locked(load_model(str(tmp_path)).model)
    assert is_locked(stock.clone().model)


def test_a_fresh_model_has_the_shape_and_other_weights() -> None:
    lm = _locked()
    one, two = fresh(lm, 1), fresh(lm, 2)
    assert not is_locked(one.model)
    assert len({one.digest(), two.digest(), lm.digest()}) == 3
    assert one.digest() == fresh(lm, 1).digest()


@pytest.mark.parametrize("parameters", ["full", "lora", "norms-and-embeddings"])
def test_no_fine_tune_gets_through_it_alone_or_in_a_cohort(parameters: str) -> None:
    """A cohort's stacked layers would compute the same and let gradients through."""
    lm = _locked()
    attack = Finetune(lr=1e-2, parameters=parameters)  # type: ignore[arg-type]
    found: dict[int, LM | Exception] = {}
    members = [
        attack.finetuning(lm, Run(budget=Budget(steps=3), data=tiny_data(), seed=seed))
        for seed in (0, 1)
    ]
    together(lm, members, lambda number, result: found.update({number: result}))
    alone = attack(lm, Run(budget=Budget(steps=3), data=tiny_data()))
    for result in (*found.values(), alone):
        assert isinstance(result, LM)
        assert result.digest() == lm.digest()
    assert len(found) == 2
