"""Shared passes, new adversaries and mixed families: what each changes, and what it must not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.hypernet.made import double, pairs, stir
from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.antidote import Antidote
from titer.hypernet import LowRank, attacker
from titer.hypernet.game import Game, audited, stream
from titer.hypernet.objectives import attack_loss, preferring

MakeRun = Callable[..., Run]
SMALL: dict[str, Any] = {"width": 8, "edit_rank": 2, "parameters": "full", "batch_size": 4}


def _game(lm: LM, **settings: Any) -> tuple[Game, Any]:
    bundle = pairs(lm)
    rules = Antidote(**{**SMALL, **settings})
    through = rules.through_hypernet
    adversary = attacker(
        lm, LowRank(rank=2), bundle["wanted"], width=8, conditioning="batch", through=through
    )
    stir(adversary)
    start = tiny_lm(seed=1).model.to(lm.model.dtype)
    return Game(rules, start, [adversary], list(lm.model.parameters())), bundle


@pytest.mark.parametrize("coherent", [0.0, 0.5])
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("preference", ["log-sigmoid", "ipo"])
def test_a_shared_pass_gives_both_players_their_own_gradients(
    coherent: float, through: bool, preference: Any
) -> None:
    lm = double()
    settings = {"coherent": coherent, "through_hypernet": through, "preference": preference}
    game, bundle = _game(lm, **settings)
    game.defend(lm.model, bundle)
    alone = [w.grad.clone() for w in lm.model.parameters()]  # type: ignore[union-attr]
    wants = preferring(preference, 1.0, reference=game.start)
    loss = attack_loss(game.adversary, lm.model, bundle, wants, coherent=coherent)
    expected = torch.autograd.grad(loss, game.adversary.weights)

    taken: list[tuple[float, Any]] = []
    shared, bundle = _game(lm, **settings)
    lm.model.zero_grad(set_to_none=True)
    shared.sparring.step = lambda loss, grads: taken.append((float(loss.detach()), grads)) or 0.0  # type: ignore[method-assign, func-returns-value]
    shared.defend(lm.model, bundle, shared=True)
    for weight, grad in zip(lm.model.parameters(), alone, strict=True):
        assert_close(weight.grad, grad)
    ((value, grads),) = taken
    assert value == pytest.approx(float(loss.detach()))
    for got, want in zip(grads, expected, strict=True):
        assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_sharing_saves_a_turn_of_data_and_operations(lm: LM, make_run: MakeRun) -> None:
    spent = {}
    for together in (False, True):
        run = make_run(3)
        before = copy.deepcopy(lm.digest())
        Antidote(together=together, **SMALL)(lm, run)
        assert lm.digest() == before
        spent[together] = run.spent
    assert spent[True].tokens < spent[False].tokens
    assert spent[True].flops < 0.9 * spent[False].flops


def test_a_new_adversary_is_tried_when_the_rules_say(lm: LM, make_run: MakeRun) -> None:
    rules = Antidote(fresh_every=4, fresh_steps=3, **SMALL)
    parts = [set(b.parts) for b, _ in zip(stream(rules, lm, make_run()), range(9), strict=False)]
    asked = [any("fresh" in name for name in names) for names in parts]
    assert asked == [audited(rules, step) for step in range(9)]
    assert asked == [step in (4, 8) for step in range(9)]
    assert sum(name.startswith("wanted fresh") for name in parts[4]) == 3
    run = make_run(9)
    out, game = rules.play(lm, run)
    assert [row["step"] for row in run.course if "fresh" in row] == [4, 8]
    assert all(0 <= row["fresh"] <= 1 for row in run.course if "fresh" in row)
    assert game.course is run.course
    # It looks on: the defence is what it would have been without.
    assert out.digest() == replace(rules, fresh_every=0)(lm, make_run(9)).digest()


def test_several_families_take_turns_a_period_each(lm: LM, make_run: MakeRun) -> None:
    rules = Antidote(edit="weights+steering+ablation-write", period=2, **SMALL)
    played: list[str] = []
    run = make_run(12)

    def watch(_lm: LM, game: Game, side: str) -> None:
        if side == "attacker":
            played.append(type(game.adversary.edit).__name__)

    out, game = rules.play(lm, run, watch)
    assert played == ["LowRank", "Steering", "Ablation"] * 2
    assert len(game.partners) == 3
    assert out.digest() == rules(lm, make_run(12)).digest()
    single = Antidote(period=2, **SMALL)(lm, make_run(12))
    assert out.digest() != single.digest()


def test_an_unknown_family_is_refused_when_it_is_built() -> None:
    with pytest.raises(BadInput, match="no family of edits is named 'wieghts'"):
        Antidote(edit="wieghts+steering")


def test_variety_is_zero_for_one_patch_and_not_for_patches_that_differ(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    for conditioning, differs in (("universal", False), ("batch", True), ("sample", True)):
        adversary = attacker(lm, LowRank(rank=2), batch, width=8, conditioning=conditioning)  # type: ignore[arg-type]
        stir(adversary)
        assert (adversary.variety(lm.model, batch) > 1e-3) is differs
