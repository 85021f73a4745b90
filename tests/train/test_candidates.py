"""Several attackers on one model: as each would be alone, in as few passes as pay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.hypernet.made import double
from titer.attacks.finetune import Finetune
from titer.attacks.hypernet import Hypernet
from titer.core.data import Data
from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.ilu import ILU
from titer.nn.trainable import trainable
from titer.train import candidates as module
from titer.train.batches import collate, encode_all, unpadded
from titer.train.candidates import candidates, fill
from titer.train.cohort import Finetuning, together
from titer.train.environments import Environment

MakeRun = Callable[..., Run]


def distance(one: LM, other: LM) -> float:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members each pass that is taken has."""
    seen: list[int] = []

    def counted(lm: LM, members: list[Finetuning], ended: Any) -> None:
        seen.append(len(members))
        together(lm, members, ended)

    monkeypatch.setattr(module, "together", counted)
    return seen


def test_each_ends_as_it_would_alone(make_run: MakeRun, passes: list[int]) -> None:
    lm = double()
    before = lm.digest()
    tries: list[Any] = [
        Finetune(lr=1e-3, parameters="lora", batch_size=3),
        Hypernet(lr=1e-2, rank=2, width=8, batch_size=3),
        Finetune(lr=3e-3, parameters="lora", rank=4, batch_size=3),
        Finetune(lr=1e-3, batch_size=3),
        Finetune(lr=1e150, parameters="lora", batch_size=3),
        Finetune(lr=3e-3, mix="poison", batch_size=3),
    ]
    runs = [make_run(6, seed=seed) for seed in range(len(tries))]
    found = candidates(lm, list(zip(tries, runs, strict=True)))
    assert lm.digest() == before
    assert passes == [3, 2]
    assert isinstance(found[4], Diverged)
    for number in (0, 1, 2, 3, 5):
        run = make_run(6, seed=number)
        alone, together_ = tries[number](lm, run), found[number]
        assert isinstance(together_, LM)
        assert distance(alone, lm) > 1e-4
        assert distance(alone, together_) < 1e-9
        assert run.losses == pytest.approx(runs[number].losses, abs=1e-9)
        assert run.spent == runs[number].spent


def test_a_fault_in_one_is_its_own(make_run: MakeRun) -> None:
    lm = double()
    rest = make_run(4)
    empty = Run(budget=Budget(steps=4), data=Data(harmful=()))
    how = Finetune(lr=1e-3, parameters="lora", batch_size=3)
    found = candidates(lm, [(how, empty), (how, rest)])
    assert isinstance(found[0], BadInput)
    assert isinstance(found[1], LM)
    assert rest.spent.steps == 4


def test_no_more_share_a_pass_than_pay(make_run: MakeRun, passes: list[int]) -> None:
    lm = double()
    how = Finetune(lr=1e-3, parameters="lora", batch_size=16)
    first = next(how.finetuning(lm, make_run()).member.batches)
    room = fill(first.tokens, 1, adapters=True)
    runs = [make_run(1, seed=seed) for seed in range(2 * room + 1)]
    candidates(lm, [(how, run) for run in runs])
    assert len(passes) == 3
    assert sum(passes) == 2 * room + 1
    assert max(passes) - min(passes) <= 1
    assert fill(100, 2_000_000, adapters=False) == 1


def test_rows_come_out_as_they_went_in(lm: LM, data: Data) -> None:
    rows = encode_all(lm, data.harmful)
    assert len({len(row.ids) for _, row in rows}) > 1
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    assert unpadded(batch).rows == tuple(rows)


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_adversaries_of_several_environments_train_side_by_side(
    make_run: MakeRun, passes: list[int], parameters: Any
) -> None:
    """Where operations are limited they take turns, so a limit that never binds is the slow way."""

    def row(lr: float, every: int) -> Environment:
        adversary = Finetune(lr=lr, parameters=parameters, batch_size=3)
        return Environment(
            data="unrelated", attack="adversary", adversary=adversary, steps=3, every=every
        )

    rows = (row(1e-3, 2), Environment(data="unrelated"), row(3e-3, 2), row(2e-3, 3))
    lm = double()
    defence = ILU(base="npo-testbed", environments=rows)
    free, limited = make_run(5), make_run(budget=Budget(steps=5, flops=1e18))
    one = defence(lm, free)
    # Steps 0, 2 and 4 have two due, step 0 the third as well, and step 3 the third alone.
    assert passes == [3, 2, 1, 2]
    passes.clear()
    other = defence(lm, limited)
    assert passes == [1] * 8
    assert distance(one, other) < 1e-9
    assert distance(one, lm) > 1e-4
    assert free.losses == pytest.approx(limited.losses, abs=1e-9)
    assert free.spent.tokens == limited.spent.tokens
    assert free.spent.flops == pytest.approx(limited.spent.flops)


def test_a_model_in_training_is_left_as_it_is(make_run: MakeRun) -> None:
    lm = double()
    with trainable(lm, "full") as ready:
        sum(weight.square().sum() for weight in ready.weights).backward()  # type: ignore[union-attr]
        grads = [weight.grad.clone() for weight in ready.weights]  # type: ignore[union-attr]
        how = Finetune(lr=1e-3, batch_size=3)
        candidates(ready.lm, [(how, make_run(2, seed=seed)) for seed in (1, 2)])
        for weight, grad in zip(ready.weights, grads, strict=True):
            assert weight.requires_grad
            assert torch.equal(weight.grad, grad)  # type: ignore[arg-type]
