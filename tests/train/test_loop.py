"""The one loop against loops written out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.testing import assert_close

from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import Diverged
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.core.records import Budget
from titer.train import optimisers
from titer.train.batches import Batch, collate, cycle, encode_all
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss
from titer.train.optimisers import Steppers, build_optimiser, multiplier

MakeRun = Callable[..., Run]
OPTIMISERS: dict[str, Callable[..., Any]] = {
    "adamw": lambda w, lr: torch.optim.AdamW(w, lr=lr, weight_decay=0.1, fused=True),
    "sgd-nesterov": lambda w, lr: torch.optim.SGD(
        w, lr=lr, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "adadelta": lambda w, lr: torch.optim.Adadelta(w, lr=lr, weight_decay=0.1),
    "schedule-free": lambda w, lr: AdamWScheduleFree(w, lr=lr, weight_decay=0.1),
}


@pytest.fixture
def batches(lm: LM, data: Data) -> list[Batch]:
    return list(islice(cycle(lm, data.harmful, batch_size=4, rng=random.Random(1)), 12))


def _fit(lm: LM, run: Run, batches: list[Batch], steps: int, **recipe: Any) -> LM:
    out = lm.clone()
    weights = list(out.model.parameters())
    recipe.setdefault("lr", 1e-2)
    fit(
        out,
        descend(answer_loss),
        iter(batches),
        run,
        parameters=weights,
        recipe=Recipe(**recipe),
        steps=steps,
    )
    return out


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_loop_is_a_bare_loop_bit_for_bit(
    kind: Any, architecture: Any, data: Data, make_run: MakeRun
) -> None:
    lm = tiny_lm(architecture)
    batches = list(islice(cycle(lm, data.harmful, batch_size=4, rng=random.Random(1)), 5))
    # Looks on the way must not show in the result: Schedule-Free swaps weights for them.
    run = make_run(5, checkpoints=(0, 1, 3, 5))
    ours = _fit(lm, run, batches, 5, optimiser=kind, weight_decay=0.1, clip=0.5)

    bare = lm.clone().model
    weights = list(bare.parameters())
    optimiser = OPTIMISERS[kind](weights, 1e-2)
    bare.train()
    if kind == "schedule-free":
        optimiser.train()
    losses: list[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(run.seed, "model 0"))
        for batch in batches:
            optimiser.zero_grad()
            value = answer_loss(bare, batch)
            value.backward()
            nn.utils.clip_grad_norm_(weights, 0.5)
            optimiser.step()
            losses.append(float(value.detach()))
    if kind == "schedule-free":
        optimiser.eval()
    assert LM(bare, lm.tokenizer).digest() == ours.digest() != lm.digest()
    assert run.losses == losses
    assert run.rates == [1e-2] * 5


def test_schedule_free_shows_its_average_and_trains_on(
    lm: LM, batches: list[Batch], make_run: MakeRun
) -> None:
    seen: dict[int, str] = {}
    run = make_run(
        6, checkpoints=(3, 6), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    out = _fit(lm, run, batches, 6, optimiser="schedule-free")
    stopped = _fit(lm, make_run(3), batches, 3, optimiser="schedule-free")
    assert seen == {3: stopped.digest(), 6: out.digest()}


@pytest.mark.parametrize("kind", ["sgd-nesterov", "adamw"])
def test_accumulated_batches_are_one_big_batch(
    lm: LM, data: Data, make_run: MakeRun, kind: Any
) -> None:
    # Every answer has three words and an end, so batches weigh the same.
    rows = encode_all(lm, data.harmful[:12])
    pad = lm.tokenizer.pad_token_id
    small = [collate(rows[start : start + 2], pad, lm.device) for start in range(0, 12, 2)]
    big = [collate(rows[start : start + 6], pad, lm.device) for start in (0, 6)]
    runs = [make_run(2), make_run(2)]
    # AdamW divides by |g|: rounding shows where a gradient is next to nothing, so take few steps.
    many = _fit(lm, runs[0], small, 2, optimiser=kind, accumulate=3, lr=1e-3, clip=None)
    once = _fit(lm, runs[1], big, 2, optimiser=kind, lr=1e-3, clip=None)
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-5)
    assert runs[0].spent == runs[1].spent
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-6} if kind == "sgd-nesterov" else {"rtol": 0, "atol": 1e-4}
    )
    assert_close(many.model.state_dict(), once.model.state_dict(), **tolerance)


def _moved(before: LM, after: LM) -> float:
    pairs = zip(before.model.parameters(), after.model.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).detach().double().pow(2).sum()) for a, b in pairs))


def test_clipping_bounds_the_joint_norm(lm: LM, batches: list[Batch], make_run: MakeRun) -> None:
    def first_step(clip: float | None) -> float:
        # Nesterov momentum from rest moves lr (g + 0.9 g).
        out = _fit(lm, make_run(1), batches, 1, optimiser="sgd-nesterov", lr=0.1, clip=clip)
        return _moved(lm, out) / (0.1 * 1.9)

    free = first_step(None)
    assert free > 0.3
    assert first_step(free / 3) == pytest.approx(free / 3, rel=1e-3)
    assert first_step(free * 3) == pytest.approx(free, rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1.0, 1.0, 1.0, 1.0]),
        ("constant", 2, [1 / 3, 2 / 3, 1.0, 1.0]),
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("linear", 2, [1 / 3, 2 / 3, 1.0, 0.5]),
        ("cosine", 0, [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
        ("cosine", 1, [0.5, 1.0, 0.75, 0.25]),
    ],
)
def test_schedules_by_hand(schedule: Any, warmup: int, expected: list[float]) -> None:
    found = [multiplier(schedule, step, 4, warmup) for step in range(4)]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_logged_rate_is_the_one_the_optimiser_used(
    lm: LM, batches: list[Batch], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    used: list[float] = []

    def spying(*args: Any, **kwargs: Any) -> Any:
        optimiser = build_optimiser(*args, **kwargs)
        step = optimiser.step

        def noted() -> Any:
            done = step()
            group = optimiser.param_groups[0]
            used.append(group.get("scheduled_lr", group["lr"]))
            return done

        optimiser.step = noted  # type: ignore[method-assign]
        return optimiser

    monkeypatch.setattr(optimisers, "build_optimiser", spying)
    run = make_run(5)
    _fit(lm, run, batches, 5, optimiser=kind, schedule="cosine", warmup=0.4, lr=1e-3)
    expected = [1e-3 * multiplier("cosine", step, 5, 2) for step in range(5)]
    assert run.rates == used == pytest.approx(expected, rel=1e-12)


def test_charges_are_those_of_the_batches(lm: LM, batches: list[Batch], make_run: MakeRun) -> None:
    run = make_run(4)
    _fit(lm, run, batches, 4, accumulate=2, flops_per_token=7.0, flops_besides=lambda b: 0.5)
    spent = run.spent
    assert spent.steps == 4
    assert spent.tokens == sum(int(batch.attention_mask.sum()) for batch in batches[:8])
    assert spent.examples == len({name for batch in batches[:8] for name in batch.ids})
    assert spent.flops == 7.0 * spent.tokens + 0.5 * 8


@pytest.mark.parametrize("axis", ["steps", "tokens", "examples", "flops"])
def test_it_stops_before_the_step_that_a_budget_does_not_afford(
    lm: LM, batches: list[Batch], make_run: MakeRun, axis: str
) -> None:
    free = make_run(3)
    _fit(lm, free, batches, 3, flops_per_token=2.0)
    limit = getattr(free.spent, axis)
    run = make_run(budget=Budget(**{axis: limit}))
    same = _fit(lm, run, batches, 6, flops_per_token=2.0)
    assert getattr(run.spent, axis) == limit
    assert run.spent == free.spent
    run = make_run(budget=Budget(**{axis: limit - 1}))
    less = _fit(lm, run, batches, 6, flops_per_token=2.0)
    assert run.spent.steps == 2
    assert less.digest() != same.digest()


def test_examples_seen_before_cost_nothing_new(lm: LM, data: Data, make_run: MakeRun) -> None:
    few = cycle(lm, data.harmful[:4], batch_size=4, rng=random.Random(0))
    run = make_run(budget=Budget(steps=6, examples=4))
    _fit(lm, run, list(islice(few, 6)), 6)
    assert (run.spent.steps, run.spent.examples) == (6, 4)


def test_nothing_is_spent_of_an_empty_budget(
    lm: LM, batches: list[Batch], make_run: MakeRun
) -> None:
    for kind in OPTIMISERS:
        run = make_run(0, checkpoints=(0,))
        assert _fit(lm, run, batches, 5, optimiser=kind).digest() == lm.digest()
        assert run.spent.steps == 0


def test_looks_see_the_model_at_rest_and_at_their_step(
    lm: LM, batches: list[Batch], make_run: MakeRun
) -> None:
    seen: dict[int, tuple[bool, str]] = {}

    def emit(model: LM, run: Run) -> None:
        seen[run.spent.steps] = (model.model.training, model.digest())
        torch.rand(3)

    run = make_run(4, checkpoints=(0, 2, 4, 9), emit=emit)
    out = _fit(lm, run, batches, 4)
    assert list(seen) == [0, 2, 4]
    assert not any(training for training, _ in seen.values())
    assert seen[0][1] == lm.digest()
    assert seen[2][1] == _fit(lm, make_run(2), batches, 2).digest()
    assert seen[4][1] == out.digest() == _fit(lm, make_run(4), batches, 4).digest()


def test_dropout_is_decided_by_the_seed(make_run: MakeRun, batches: list[Batch]) -> None:
    lm = tiny_lm("gpt2")

    def trained(seed: int) -> str:
        torch.manual_seed(random.randrange(1000))
        return _fit(lm, make_run(2, seed=seed), batches, 2).digest()

    assert trained(1) == trained(1) != trained(2)


def test_two_stages_do_not_repeat_their_dropout(make_run: MakeRun, batches: list[Batch]) -> None:
    lm = tiny_lm("gpt2")
    run = make_run(2)
    _fit(lm, run, batches[:1], 1)
    _fit(lm, run, batches[:1], 1)
    assert run.losses[0] != run.losses[1]


@dataclass(frozen=True)
class Blank:
    ids: tuple[str, ...] = ("x",)
    tokens: int = 1


def _blanks() -> Iterator[Blank]:
    while True:
        yield Blank()


def _fit_loss(lm: LM, run: Run, loss: Callable[[Any, Any], Any], lr: float, steps: int) -> None:
    out = lm.clone()
    fit(
        out,
        descend(loss),
        _blanks(),
        run,
        parameters=list(out.model.parameters()),
        recipe=Recipe(lr=lr, optimiser="sgd-nesterov", clip=None),
        steps=steps,
    )


def test_divergence_is_an_error_not_a_result(lm: LM, make_run: MakeRun) -> None:
    def norm(model: Any, _batch: Any) -> Any:
        return sum(weight.pow(2).sum() for weight in model.parameters())

    run = make_run(3)
    with pytest.raises(Diverged, match="after 0 steps the loss is nan"):
        _fit_loss(lm, run, lambda model, batch: norm(model, batch) * float("nan"), 1e-3, 3)
    assert run.spent.steps == 0
    with pytest.raises(Diverged, match="gradient norm"):
        _fit_loss(lm, make_run(30), norm, 1e10, 30)
    # The last step has no loss after it that would tell.
    with pytest.raises(Diverged, match="weights are not finite"):
        _fit_loss(lm, make_run(1), lambda *given: 1e15 * norm(*given), 1e30, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_raise_a_doubt(
    lm: LM, batches: list[Batch], make_run: MakeRun, dtype: torch.dtype
) -> None:
    half, run = LM(lm.clone().model.to(dtype), lm.tokenizer), make_run(1)
    _fit(half, run, batches, 1, lr=1e-5)
    _fit(half, run.stage(1, "more"), batches, 1, lr=1e-5)
    assert run.flags == ["half-precision-weights"]
    single = make_run(1)
    _fit(lm, single, batches, 1)
    assert single.flags == []


def test_steps_smaller_than_a_half_numbers_spacing_are_not_lost(
    lm: LM, batches: list[Batch], make_run: MakeRun
) -> None:
    """At 1e-5 a step moves no bfloat16 weight; fifty of them move what fifty in single move."""
    half = LM(lm.clone().model.to(torch.bfloat16), lm.tokenizer)

    def moved(one: LM) -> Tensor:
        out = _fit(one, make_run(50), batches * 50, 50, lr=1e-5)
        pairs = zip(out.model.parameters(), one.model.parameters(), strict=True)
        return torch.cat([(after.float() - before.float()).flatten() for after, before in pairs])

    found, wanted = moved(half).detach(), moved(lm).detach()
    assert float(wanted.abs().mean()) > 1e-4
    assert float(torch.corrcoef(torch.stack([found, wanted]))[0, 1]) > 0.5


def test_what_a_projection_does_to_half_weights_stays(lm: LM) -> None:
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    steppers = Steppers({0: ("adamw", {"params": [weight], "lr": 1e-5, "weight_decay": 0.0})})
    weight.grad = torch.ones_like(weight)
    steppers.step({0: 1e-5})
    with torch.no_grad():
        weight.fill_(2.0)
    weight.grad = torch.ones_like(weight)
    steppers.step({0: 1e-5})
    assert weight.tolist() == [2.0] * 4
