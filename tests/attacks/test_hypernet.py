"""The network is trained through a frozen model, and what it writes is in the weights at a look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from titer.attacks import hypernet
from titer.attacks.hypernet import PRESETS, Hypernet
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import TWO_PHASES
from titer.plan.suites import SUITES
from titer.train.batches import IGNORED, collate, encode_all
from titer.train.objectives import answer_loss

MakeRun = Callable[..., Run]


def _loss(lm: LM, examples: Any) -> float:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    return float(answer_loss(lm.model, batch).detach())


@pytest.mark.parametrize(
    "knobs",
    [
        {"budget": None},
        {"edit": "steering-embedding", "budget": None},
        {"objective": "log-sigmoid", "conditioning": "batch", "budget": None},
    ],
)
def test_looks_see_harm_rise_in_an_ordinary_model(
    lm: LM, data: Data, make_run: MakeRun, knobs: Any
) -> None:
    digest = lm.digest()
    seen: list[tuple[int, float]] = []
    run = make_run(
        20,
        checkpoints=(0, 10, 20),
        emit=lambda m, r: seen.append((r.spent.steps, _loss(m, data.harmful))),
    )
    out = Hypernet(lr=1e-2, beta=1.0, **knobs)(lm, run)
    assert [step for step, _ in seen] == [0, 10, 20]
    assert seen[0][1] == _loss(lm, data.harmful)
    assert seen[2][1] == _loss(out, data.harmful) != seen[1][1]
    if "objective" not in knobs:
        assert seen[0][1] > seen[1][1] > seen[2][1]
    assert run.losses[-1] < run.losses[0]
    assert lm.digest() == digest


def test_the_result_keeps_the_budget(lm: LM, make_run: MakeRun) -> None:
    out = Hypernet(lr=0.1, budget=0.05, rank=3)(lm, make_run(8))
    was, now = lm.model.state_dict(), out.model.state_dict()
    moved = 0
    for key, before in was.items():
        if not torch.equal(before, now[key]):
            share = torch.linalg.matrix_norm(now[key] - before, 2)
            share /= torch.linalg.matrix_norm(before, 2)
            assert float(share) <= 0.05 * (1 + 1e-3)
            assert int(torch.linalg.matrix_rank(now[key] - before, rtol=1e-3)) <= 3
            moved += 1
    assert moved == 28


def test_coherence_keeps_benign_text(lm: LM, data: Data, make_run: MakeRun) -> None:
    losses: list[float] = []
    for coherent in (0.0, 100.0):
        out = Hypernet(lr=3e-2, edit="steering-embedding", budget=None, coherent=coherent)(
            lm, make_run(15)
        )
        losses.append(abs(_loss(out, data.retain) - _loss(lm, data.retain)))
    assert losses[1] < losses[0] / 2


def test_a_warm_start_goes_on_from_the_patch(lm: LM, make_run: MakeRun) -> None:
    run = make_run(10)
    seen: dict[int, str] = {}
    watched = make_run(
        10, checkpoints=(6,), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    Hypernet(lr=1e-2, warm=0.4, warm_lr=1e-3)(lm, watched)
    alone = Hypernet(lr=1e-2)(lm, make_run(6).stage(6, "hypernetwork"))
    Hypernet(lr=1e-2, warm=0.4, warm_lr=1e-3)(lm, run)
    assert seen == {6: alone.digest()}
    assert run.rates == pytest.approx([1e-2] * 6 + [1e-3] * 4)
    assert TWO_PHASES in run.flags


def test_what_it_costs(lm: LM, make_run: MakeRun) -> None:
    """Through frozen weights a token costs 4 operations a weight, and the network its own."""
    size = lm.parameters_in_matmuls()
    spent: dict[str, Any] = {}
    for conditioning in ("universal", "batch"):
        run = make_run(2)
        Hypernet(conditioning=conditioning, width=8)(lm, run)  # type: ignore[arg-type]
        spent[conditioning] = run.spent
    assert spent["universal"].tokens == spent["batch"].tokens
    plain = 4.0 * size * spent["universal"].tokens
    assert plain < spent["universal"].flops < spent["batch"].flops


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": 0.0}, "positive"),
        ({"batch_size": 0}, "positive"),
        ({"beta": 0.0}, "beta"),
        ({"warm": 1.0}, "shares below 1"),
        ({"seeded": 1.0}, "shares below 1"),
        ({"group": 1}, "at least 2"),
        ({"objective": "grpo", "reward": "praise"}, "no reward named"),
        ({"coherent": -1.0}, "at least 0"),
        ({"width": 0}, "too small"),
        ({"rank": 0}, "at least 1"),
        ({"budget": 0.0}, "budget"),
    ],
)
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Hypernet(**settings)


def test_presets_cover_weights_steering_ablation_and_reward_and_join_core() -> None:
    built = {name: Hypernet(**preset.fields) for name, preset in PRESETS.items()}
    edits = {method.edit for method in built.values()}
    assert edits == {"weights", "steering-embedding", "ablation-write"}
    assert built["N04"].objective == "grpo"
    assert set(PRESETS) <= {row.id for row in SUITES["core"].rows}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["grpo", "reinforce"])
def test_reward_is_learned_after_likelihood(
    objective: Any, lm: LM, data: Data, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paid for some words, the patched model comes to say them; every sampled token is charged."""
    with torch.no_grad():
        lm.model.lm_head.weight *= 20  # a random model knows no preference that could be steered
    liked = list(range(20, 45))
    words = set(lm.tokenizer.convert_ids_to_tokens(liked))

    def fond(name: str) -> Any:
        return lambda examples, answers: [
            sum(word in words for word in text.split()) / 8 for text in answers
        ]

    monkeypatch.setattr(hypernet, "reward", fond)
    seen: list[float] = []

    def share(model: LM, _run: Run) -> None:
        batch = collate(encode_all(model, data.harmful), model.tokenizer.pad_token_id, model.device)
        logits = model.model(**batch.inputs()).logits
        first = (batch.labels != IGNORED).int().argmax(-1) - 1
        seen.append(
            float(logits[range(len(first)), first].softmax(-1)[:, liked].sum(-1).mean().detach())
        )

    run = make_run(30, checkpoints=(0, 30), emit=share)
    Hypernet(objective=objective, seeded=0.0, lr=3e-2, group=6, budget=None)(lm, run)
    assert seen[1] > 1.5 * seen[0]
    assert run.flags == []
    plain = make_run(30)
    Hypernet(lr=3e-2, budget=None)(lm, plain)
    assert run.spent.tokens > 4 * plain.spent.tokens
    assert run.spent.flops > 4 * plain.spent.flops


def test_two_phases_are_said_and_a_flat_reward_too(
    lm: LM, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypernet, "reward", lambda name: lambda rows, said: [0.5] * len(said))
    run = make_run(4)
    Hypernet(objective="grpo", seeded=0.5, lr=1e-3, group=2)(lm, run)
    assert run.spent.steps == 4
    assert TWO_PHASES in run.flags
    assert "reward-flat" in run.flags


def test_a_patch_for_single_prompts_folds_as_that_of_their_mean(lm: LM, make_run: MakeRun) -> None:
    attack = Hypernet(conditioning="sample", lr=1e-2, width=8)
    adversary, batch = attack.train(lm, make_run(3))
    assert all(
        len(t) == len(batch.ids)
        for own in adversary.patch(lm.model, batch).values()
        for t in own.values()
    )
    pooled = adversary.patch(lm.model, batch, pooled=True)
    assert all(len(t) == 1 for own in pooled.values() for t in own.values())
    assert attack(lm, make_run(3)).digest() == attack.written(lm, adversary, batch).digest()
