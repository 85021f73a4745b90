"""The game: who moves when, what each move changes, and that both players get better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.hypernet.made import pairs, stir
from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.antidote import Antidote
from titer.hypernet import LowRank, applied, attacker
from titer.hypernet.game import Game, stream
from titer.hypernet.objectives import logits, margins, preferring
from titer.hypernet.sparring import Sparring
from titer.train.objectives import cross_entropy, kl_to

MakeRun = Callable[..., Run]
SMALL: dict[str, Any] = {"width": 16, "edit_rank": 2, "parameters": "full", "batch_size": 8}


def _game(lm: LM, **settings: Any) -> tuple[Game, Any]:
    bundle = pairs(lm)
    rules = Antidote(**{**SMALL, **settings})
    adversary = attacker(
        lm,
        LowRank(rank=2),
        bundle["wanted"],
        width=8,
        conditioning=rules.conditioning,
        through=rules.through_hypernet,
    )
    stir(adversary)
    start = tiny_lm(seed=1).model
    return Game(rules, start, [adversary], list(lm.model.parameters())), bundle


def _touched(weights: Any) -> bool:
    return any(weight.grad is not None for weight in weights)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_the_defender_s_move_leaves_no_gradient_on_the_adversary(
    lm: LM, through: bool, coupled: bool
) -> None:
    game, bundle = _game(lm, through_hypernet=through, coupled=coupled)
    before = [weight.detach().clone() for weight in game.adversary.weights]
    game.defend(lm.model, bundle)
    assert not _touched(game.adversary.weights)
    assert all(torch.equal(a, b) for a, b in zip(before, game.adversary.weights, strict=True))
    assert all(w.grad is not None and bool(w.grad.isfinite().all()) for w in lm.model.parameters())


def test_the_adversary_s_move_leaves_no_gradient_on_the_defender(lm: LM) -> None:
    game, bundle = _game(lm, coherent=1.0)
    digest = lm.digest()
    before = [weight.detach().clone() for weight in game.adversary.weights]
    game.sparring(lm.model, bundle)
    assert not _touched(lm.model.parameters())
    assert not _touched(game.adversary.weights)
    assert lm.digest() == digest
    moved = zip(before, game.adversary.weights, strict=True)
    assert all(not torch.equal(a, b) for a, b in moved)


def test_the_defender_s_loss_by_hand(lm: LM) -> None:
    game, bundle = _game(lm, conditioning="sample", beta=0.3)
    logs = game.defend(lm.model, bundle)
    with torch.no_grad():
        with game.adversary.attacking(lm.model, bundle["wanted"]):
            harm = margins(lm.model, bundle)
        clean, benign = logits(lm.model, bundle["benign"]), bundle["benign"]
        resist = -torch.nn.functional.logsigmoid(-0.3 * harm).mean()
        capability = cross_entropy(clean, benign.labels)
        drift = kl_to(clean, logits(game.start, benign), benign.labels)
    assert logs["resist"] == pytest.approx(float(resist))
    assert logs["capability"] == pytest.approx(float(capability))
    assert logs["drift"] == pytest.approx(float(drift))
    assert logs["loss"] == pytest.approx(float(resist + 0.8 * capability + 0.3 * drift))
    assert logs["success"] == float((harm > 0).float().mean())


@pytest.mark.parametrize("together", [False, True])
def test_the_defender_s_gradient_is_that_of_the_whole_loss_in_two_parts(
    lm: LM, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, bundle = _game(lm, beta=0.3, together=together)
    benign, weights = bundle["benign"], list(lm.model.parameters())
    with torch.no_grad():
        patch = game.adversary.patch(lm.model, bundle["wanted"])
        before = logits(game.start, benign)
    with applied(lm.model, game.adversary.edit, patch):
        harm = margins(lm.model, bundle)
    clean = logits(lm.model, benign)
    kept = 0.8 * cross_entropy(clean, benign.labels) + 0.3 * kl_to(clean, before, benign.labels)
    resist = -torch.nn.functional.logsigmoid(-0.3 * harm).mean()
    whole = torch.autograd.grad(resist + kept, weights)
    parts: list[int] = []

    def counted(model: Any, batch: Any) -> torch.Tensor:
        # The pairs' gradient is there, and so their graph is gone, before retain text comes.
        parts.append(_touched(weights))
        return logits(model, batch)

    monkeypatch.setattr("titer.hypernet.game.logits", counted)
    lm.model.zero_grad(set_to_none=True)
    game.defend(lm.model, bundle, shared=together)
    assert min(parts) > 0
    for weight, grad in zip(weights, whole, strict=True):
        torch.testing.assert_close(weight.grad, grad)


def test_a_schedule_is_the_defender_s(lm: LM, make_run: MakeRun) -> None:
    runs = [make_run(6), make_run(6)]
    outs = [
        Antidote(lr=3e-3, schedule=schedule, **SMALL)(lm, run)
        for schedule, run in zip(("constant", "linear"), runs, strict=True)
    ]
    assert runs[0].losses[0] == runs[1].losses[0]
    assert runs[0].losses[-1] != runs[1].losses[-1]
    far = [
        sum(
            float((a - b).detach().square().sum())
            for a, b in zip(out.model.parameters(), lm.model.parameters(), strict=True)
        )
        for out in outs
    ]
    assert far[1] < far[0]


def test_through_the_network_the_gradient_is_another(lm: LM) -> None:
    grads: list[torch.Tensor] = []
    for through in (False, True):
        game, bundle = _game(lm, through_hypernet=through)
        lm.model.zero_grad(set_to_none=True)
        game.defend(lm.model, bundle)
        grads.append(torch.cat([w.grad.flatten() for w in lm.model.parameters()]))
    assert not torch.allclose(grads[0], grads[1], rtol=1e-3)


def test_coupled_capability_is_judged_under_the_patch(lm: LM) -> None:
    values = [
        game.defend(lm.model, bundle)["capability"]
        for game, bundle in (_game(lm, coupled=coupled) for coupled in (False, True))
    ]
    assert values[0] != pytest.approx(values[1], rel=1e-5)


def test_the_adversary_moves_when_the_rules_say(lm: LM, data: Data, make_run: MakeRun) -> None:
    rules = Antidote(adversary_steps=2, period=3, head_start=4, **SMALL)
    turns = [
        (len(bundle.parts) - 1) // 2 - 1
        for bundle, _ in zip(stream(rules, lm, make_run()), range(7), strict=False)
    ]
    assert turns == [6, 0, 0, 2, 0, 0, 2]
    bundle = next(stream(rules, lm, make_run()))
    for k in range(7):
        assert bundle[f"wanted {k}"].ids == bundle[f"unwanted {k}"].ids
        wanted, unwanted = bundle[f"wanted {k}"], bundle[f"unwanted {k}"]
        assert torch.equal(wanted.input_ids[:, :4], unwanted.input_ids[:, :4])


@pytest.mark.parametrize("preference", ["log-sigmoid", "ipo"])
def test_the_defender_learns_to_resist(lm: LM, make_run: MakeRun, preference: Any) -> None:
    rules = Antidote(
        lr=3e-3, adversary_lr=1e-3, budget=0.3, beta=0.1, preference=preference, **SMALL
    )
    out, game = rules.play(lm, make_run(11))
    history = game.course
    assert [row["step"] for row in history] == [0, 10]
    assert history[-1]["resist"] < history[0]["resist"]
    assert history[-1]["success"] <= history[0]["success"]
    assert history[-1]["norm"] > 0
    assert 1 <= history[-1]["rank"] <= 2
    assert out.digest() == rules(lm, make_run(11)).digest()


def test_both_sides_of_the_account(lm: LM, make_run: MakeRun) -> None:
    """Every token is charged; the adversary's at no more than the defender's own price."""
    spent = {}
    for steps in (1, 3):
        run = make_run(2)
        Antidote(adversary_steps=steps, **SMALL)(lm, run)
        spent[steps] = run.spent
    assert spent[3].tokens > spent[1].tokens
    more = spent[3].tokens - spent[1].tokens
    size = lm.parameters_in_matmuls()
    assert spent[3].flops - spent[1].flops > 4.0 * size * more


def test_a_broken_adversary_is_told(lm: LM) -> None:
    bundle = pairs(lm)
    adversary = attacker(lm, LowRank(rank=2), bundle["wanted"], width=8)
    with torch.no_grad():
        adversary.weights[0].fill_(torch.nan)
    with pytest.raises(Diverged, match="lower its rate"):
        Sparring(adversary, preferring(), lr=1e-3)(lm.model, bundle)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": 0.0}, "positive"),
        ({"adversary_lr": float("nan")}, "positive"),
        ({"beta": -1.0}, "positive"),
        ({"period": 0}, "at least 1"),
        ({"head_start": -1}, "at least 0"),
        ({"edit_rank": 0}, "at least 1"),
        ({"budget": 0.0}, "budget"),
    ],
)
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Antidote(**settings)


def test_without_harmful_or_retain_text_it_says_so(lm: LM, data: Data) -> None:
    for bare in (Data(retain=data.retain), Data(harmful=data.harmful)):
        with pytest.raises(BadInput, match="examples"):
            Antidote(**SMALL)(lm, Run(budget=Budget(steps=1), data=bare))
