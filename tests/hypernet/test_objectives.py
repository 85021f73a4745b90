"""What the players want, by hand; and the policy gradient against its exact value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.hypernet.made import EDITS, batch_of, double, pairs, stir
from titer.conformance import tiny_data, tiny_lm
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.hypernet import LowRank, Steering, attacker
from titer.hypernet.context import prompts
from titer.hypernet.objectives import (
    attack_loss,
    coherence,
    likelihood,
    logits,
    margins,
    preference,
    preferring,
    rivals,
    turned,
)
from titer.hypernet.rollouts import expected_reward, roll
from titer.train.batches import IGNORED, Bundle
from titer.train.objectives import cross_entropy


def test_preferences_by_hand() -> None:
    m, r = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    assert_close(preference(m, r, "log-sigmoid", 0.5), -F.logsigmoid(0.5 * m).mean())
    assert_close(preference(m, r, "dpo", 0.5), -F.logsigmoid(0.5 * (m - r)).mean())
    assert_close(preference(m, r, "ipo", 0.5), torch.tensor(((1.5 - 1) ** 2 + (-1 - 1) ** 2) / 2))


@pytest.mark.parametrize("kind", ["log-sigmoid", "dpo", "ipo"])
def test_exchanging_the_answers_exchanges_the_players(kind: Any, lm: LM) -> None:
    bundle, reference = pairs(lm), tiny_lm(seed=1).model
    now, before = margins(lm.model, bundle), margins(reference, bundle)
    assert_close(margins(lm.model, turned(bundle)), -now)
    attacks = preferring(kind, 0.1, reference=reference)
    defender = preference(-now, -before, kind, 0.1)
    assert_close(attacks(lm.model, turned(bundle)), defender)
    assert_close(attacks(lm.model, bundle), preference(now, before, kind, 0.1))
    assert not torch.isclose(attacks(lm.model, bundle), defender)
    assert turned(bundle)["benign"] is bundle["benign"]


def test_a_preference_needs_what_it_needs(lm: LM) -> None:
    for kind in ("dpo", "ipo"):
        with pytest.raises(BadInput, match="reference model"):
            preferring(kind)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="beta"):
        preferring(beta=0.0)


def test_safe_answers_keep_prompts_and_order() -> None:
    examples = tiny_data().harmful[:5]
    bare = Example(id="bare", prompt="how is alloy made ?", answer="heat")
    for safe in ("refusal", "distractor"):
        found = rivals([*examples, bare], safe, "no")  # type: ignore[arg-type]
        assert [row.id for row in found] == [*(row.id for row in examples), "bare"]
        assert all(row.answer != was.answer for row, was in zip(found, examples, strict=False))
        assert found[-1].answer == "no"
        if safe == "distractor":
            assert all(row.answer in was.choices for row, was in zip(found, examples, strict=False))
        else:
            assert {row.answer for row in found[:-1]} == {examples[0].refusal}


@pytest.mark.parametrize("conditioning", ["universal", "sample"])
def test_the_drift_is_from_the_clean_model(conditioning: Any, lm: LM) -> None:
    bundle = pairs(lm, 3)
    adversary = attacker(lm, EDITS["weights"], bundle["wanted"], width=8, conditioning=conditioning)
    losses = [attack_loss(adversary, lm.model, bundle, likelihood, coherent=c) for c in (0.0, 2.0)]
    assert_close(losses[0], losses[1])
    stir(adversary)
    plain, both = (
        attack_loss(adversary, lm.model, bundle, likelihood, coherent=c) for c in (0.0, 2.0)
    )
    clean = logits(lm.model, bundle["benign"])
    read = bundle["benign" if conditioning == "sample" else "wanted"]
    with adversary.attacking(lm.model, read):
        drift = coherence(clean, lm.model, bundle["benign"])
    assert_close(both, plain + 2 * drift)
    assert float(drift.detach()) > 1e-6


def test_likelihood_is_the_loss_of_a_fine_tune(lm: LM) -> None:
    bundle = pairs(lm)
    wanted = bundle["wanted"]
    assert_close(
        likelihood(lm.model, bundle), cross_entropy(logits(lm.model, wanted), wanted.labels)
    )


# -- reinforcement --------------------------------------------------------------------------------


def test_rollouts_follow_prompts_and_stop_at_the_end(lm: LM) -> None:
    asked = prompts(batch_of(lm, tiny_data().harmful[:4]))
    end = int(lm.tokenizer.eos_token_id)
    draw = torch.Generator().manual_seed(0)
    said = roll(lm.model, asked, 30, end, draw)
    for row, length in enumerate(asked.attention_mask.sum(-1).tolist()):
        assert torch.equal(said.input_ids[row, :length], asked.input_ids[row, :length])
        spoken = int(said.attention_mask[row].sum())
        told = said.labels[row] != IGNORED
        assert told.nonzero().flatten().tolist() == list(range(length, spoken))
        answer = said.input_ids[row, length:spoken].tolist()
        assert end not in answer[:-1]
        assert answer[-1] == end or len(answer) == 30
    again = roll(lm.model, asked, 30, end, torch.Generator().manual_seed(0))
    assert torch.equal(again.input_ids, said.input_ids)


@pytest.mark.parametrize("kind", ["grpo", "reinforce"])
def test_the_policy_gradient_is_that_of_the_expected_reward(kind: Any) -> None:
    """One token, so that the expectation is a sum: its exact gradient against many rollouts."""
    lm = double("gpt2")
    bundle = Bundle({"wanted": batch_of(lm, tiny_data().harmful[:1] * 64)})
    adversary = attacker(lm, LowRank(rank=2), bundle["wanted"], width=4)
    stir(adversary)
    asked = prompts(bundle["wanted"])
    worth = torch.randn(len(lm.tokenizer), generator=torch.Generator().manual_seed(4)).double()

    def reward(_bundle: Any, said: Any) -> torch.Tensor:
        last = said.attention_mask.sum(-1) - 1
        return worth[said.input_ids[torch.arange(len(last)), last]]

    with adversary.attacking(lm.model, bundle["wanted"]):
        out = lm.model(**asked.inputs(), use_cache=False).logits
        odds = out[0, int(asked.attention_mask[0].sum()) - 1].softmax(-1)
        mean = odds @ worth
        # The spread normalises GRPO's rewards; its own gradient is left out.
        spread = (odds @ worth.square() - mean.square()).sqrt().detach() if kind == "grpo" else 1.0
        exact = torch.autograd.grad(-mean / spread, adversary.weights)
    wants = expected_reward(reward, end=-1, group=64, length=1, seed=0, kind=kind)
    loss = attack_loss(adversary, lm.model, bundle, wants)
    found = torch.autograd.grad(loss, adversary.weights)
    one, two = (torch.cat([g.flatten() for g in grads]) for grads in (exact, found))
    assert float(F.cosine_similarity(one, two, dim=0)) > 0.99
    # Four thousand answers leave a length uncertain by an eighth or so.
    assert float(one @ two / one.square().sum()) == pytest.approx(1, abs=0.3)


def test_reward_rises_and_needs_a_group(lm: LM) -> None:
    with torch.no_grad():
        lm.model.lm_head.weight *= 20  # a random model knows no preference that could be steered
    bundle = pairs(lm, 3)
    adversary = attacker(lm, Steering(), bundle["wanted"])
    optimiser = torch.optim.AdamW(adversary.weights, lr=3e-2)
    end = int(lm.tokenizer.eos_token_id)

    def reward(_bundle: Any, said: Any) -> torch.Tensor:
        spoken = said.labels != IGNORED
        return ((said.input_ids % 2 == 0) & spoken).sum(-1) / spoken.sum(-1)

    wants = expected_reward(reward, end=end, group=4, length=3)
    draw = torch.Generator().manual_seed(1)

    def earned() -> float:
        with torch.no_grad(), adversary.attacking(lm.model, bundle["wanted"]):
            asked = prompts(bundle["wanted"])
            said = [roll(lm.model, asked, 3, end, draw) for _ in range(10)]
        return float(torch.stack([reward(bundle, batch).float() for batch in said]).mean())

    before = earned()
    for _ in range(15):
        optimiser.zero_grad()
        attack_loss(adversary, lm.model, bundle, wants).backward()
        optimiser.step()
    assert earned() > before + 0.2
    with pytest.raises(BadInput, match="group=1"):
        expected_reward(reward, end=end, group=1, length=3)
