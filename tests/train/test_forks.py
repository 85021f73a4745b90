"""Answers that branch off from a shared prompt: each as it would be alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.lm import LM, quiet
from titer.train.forks import Forks, answer_logits, answer_logprobs, fork
from titer.train.policy import tempered

PROMPTS = ((1, 4, 2, 7), (1, 4, 2, 7), (1, 4, 2, 7), (3, 5, 6, 8, 9, 2), (3, 5, 6, 8, 9, 2))
ANSWERS = ((5,), (6, 2, 9, 11, 12), (5, 7), (4, 4, 3), (8, 1))
NAMES = ("a", "a", "a", "b", "b")


def _logprobs(lm: LM, forks: Forks) -> Tensor:
    return answer_logprobs(answer_logits(lm.model, forks), forks)


def _alone(lm: LM, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    logits = lm.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return tempered(logits, 1.0).gather(-1, torch.tensor(answer)[:, None])[:, 0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probabilities_and_gradients_are_those_of_each_alone(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    forks = fork(lm, PROMPTS, ANSWERS, NAMES)
    assert len(forks.inputs["input_ids"]) == 2
    assert forks.tokens == 4 + (0 + 4 + 1) + 6 + (2 + 1)
    weights = list(lm.model.parameters())
    found = _logprobs(lm, forks)
    alone = [_alone(lm, *pair) for pair in zip(PROMPTS, ANSWERS, strict=True)]
    for row, want in zip(found, alone, strict=True):
        torch.testing.assert_close(row[: len(want)], want, rtol=1e-4, atol=1e-5)
        assert not row[len(want) :].any()
    share = torch.arange(1.0, 6.0)  # each answer pulls with a strength of its own
    mine = torch.autograd.grad((found.sum(-1) * share).sum(), weights)
    want = torch.autograd.grad(
        sum((row.sum() * by for row, by in zip(alone, share, strict=True)), torch.zeros(())),
        weights,
    )
    torch.testing.assert_close(mine, want, rtol=1e-3, atol=1e-4)


def test_answers_share_a_row_only_where_that_costs_less() -> None:
    lm = tiny_lm()
    long = tuple(range(3, 13)) * 5
    short = fork(lm, [(1, 2)] * 4, [(3, 4)] * 4, ["x"] * 4)
    assert len(short.inputs["input_ids"]) == 1
    # Next to no prompt, long answers: attention over all of them would cost more than it saves.
    apart = fork(lm, [(1,)] * 2, [long] * 2, ["x"] * 2)
    assert len(apart.inputs["input_ids"]) == 2
    assert apart.inputs["attention_mask"].dim() == 2


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_shares_no_rows_has_a_row_an_answer() -> None:
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        config = hf.MambaConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4, eos_token_id=1
        )
        lm = LM(hf.MambaForCausalLM(config).eval(), tiny_lm().tokenizer, "recurrent")
    forks = fork(lm, PROMPTS, ANSWERS, NAMES)
    assert len(forks.inputs["input_ids"]) == 5
    assert forks.tokens == 3 * 4 + (0 + 4 + 1) + 2 * 6 + (2 + 1)
    with torch.no_grad():
        for row, prompt, answer in zip(_logprobs(lm, forks), PROMPTS, ANSWERS, strict=True):
            want = _alone(lm, prompt, answer)
            torch.testing.assert_close(row[: len(want)], want, rtol=1e-3, atol=1e-4)


def test_a_head_that_does_more_is_asked_whole() -> None:
    lm = tiny_lm()
    plain = fork(lm, PROMPTS, ANSWERS, NAMES)
    before = answer_logits(lm.model, plain).detach()
    capped = tiny_lm()
    forward = capped.model.forward

    def cap(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        out.logits = 2.0 * torch.tanh(out.logits / 2.0)
        return out

    capped.model.forward = cap
    after = answer_logits(capped.model, fork(capped, PROMPTS, ANSWERS, NAMES)).detach()
    torch.testing.assert_close(after, 2.0 * torch.tanh(before / 2.0), rtol=1e-4, atol=1e-5)
