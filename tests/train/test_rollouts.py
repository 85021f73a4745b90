"""Sampling: what `generate` and a plain forward pass would say, and chance as it should be."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.lm import LM
from titer.train.forks import answer_logits, answer_logprobs
from titer.train.policy import tempered
from titer.train.rollouts import Rollouts, sample

PROMPTS = [example.prompt for example in tiny_data().harmful[:6]]  # of two lengths


def _sample(lm: LM, seed: int = 0, prompts: list[str] = PROMPTS, **settings) -> Rollouts:
    chance = torch.Generator().manual_seed(seed)
    heads = [lm.prompt_ids(prompt) for prompt in prompts]
    return sample(lm, heads, generator=chance, **settings)


def _biased(lm: LM, token: int, by: float) -> LM:
    """A copy that favours a token: GPT-2 and Llama have no output bias, so a hook adds it."""
    out = lm.clone()

    def favour(_module, _inputs, logits):
        logits[..., token] += by
        return logits

    out.model.get_output_embeddings().register_forward_hook(favour)
    return out


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_greedy_limit_is_what_generate_says(architecture) -> None:
    lm = tiny_lm(architecture)
    want = lm.generate(PROMPTS, max_new_tokens=9)
    assert _sample(lm, temperature=0.0, max_new_tokens=9).texts(lm) == want
    # A very cold policy says the same as the limit.
    assert _sample(lm, temperature=1e-4, max_new_tokens=9).texts(lm) == want


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probabilities_are_those_of_a_plain_forward(architecture, temperature) -> None:
    lm = tiny_lm(architecture)
    taken = _sample(lm, group=3, max_new_tokens=12, temperature=temperature)
    for prompt, answer, got in zip(taken.prompts, taken.answers, taken.logprobs, strict=True):
        with torch.no_grad():
            logits = lm.model(torch.tensor([[*prompt, *answer]])).logits[0]
        logs = tempered(logits[len(prompt) - 1 : -1], temperature)
        want = logs.gather(-1, torch.tensor(answer)[:, None])[:, 0]
        assert_close(torch.tensor(got), want, rtol=1e-4, atol=1e-5)


def test_what_is_trained_on_holds_what_was_sampled() -> None:
    lm = tiny_lm()
    taken = _sample(lm, group=2, max_new_tokens=10)
    forks = taken.forks([str(row) for row in range(12)], lm)
    found = zip(forks.wanted, forks.said, strict=True)
    assert [tuple(row[real].tolist()) for row, real in found] == list(taken.answers)
    with torch.no_grad():
        found = answer_logprobs(answer_logits(lm.model, forks), forks)
    assert_close(taken.behaviour(forks), found, rtol=1e-4, atol=1e-5)


def test_the_seed_decides_and_global_chance_does_not() -> None:
    lm = tiny_lm("gpt2")  # with dropout, which must be off
    state = torch.get_rng_state()
    one = _sample(lm, 1, group=2)
    torch.manual_seed(99)
    assert _sample(lm, 1, group=2) == one != _sample(lm, 2, group=2)
    torch.set_rng_state(state)


def test_sampling_leaves_the_mode_and_draws_no_global_chance() -> None:
    lm = tiny_lm("gpt2")
    state = torch.get_rng_state()
    lm.model.train()
    one = _sample(lm)
    assert lm.model.training
    lm.model.eval()
    assert _sample(lm) == one
    assert not lm.model.training
    assert torch.equal(state, torch.get_rng_state())


def test_a_row_does_not_depend_on_how_long_the_others_take() -> None:
    lm = tiny_lm()
    ends = lm.tokenizer.eos_token_id
    eager = _biased(lm, ends, 3.0)
    taken = _sample(eager, group=4, max_new_tokens=24)
    assert len(set(map(len, taken.answers))) > 3
    # The same chance row by row, alone.
    draws = torch.rand(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row in (0, 7, 23):
        prompt, said = taken.prompts[row], []
        for place in range(24):
            with torch.no_grad():
                logits = eager.model(torch.tensor([[*prompt, *said]])).logits[0, -1]
            steps = tempered(logits, 1.0).double().exp().cumsum(-1)
            said.append(int((steps <= draws[row, place] * steps[-1]).sum()))
            if said[-1] == ends:
                break
        assert tuple(said) == taken.answers[row]


def test_answers_end_at_the_ending_token_or_at_the_limit() -> None:
    lm = tiny_lm()
    ends = lm.tokenizer.eos_token_id
    taken = _sample(_biased(lm, ends, 2.0), group=8, max_new_tokens=7)
    assert {True, False} == set(taken.ended)
    for answer, ended in zip(taken.answers, taken.ended, strict=True):
        assert (answer[-1] == ends) == ended
        assert ends not in answer[:-1]
        assert ended or len(answer) == 7


def test_frequencies_are_the_policy_s_probabilities() -> None:
    """Every two-token answer of a model with few likely tokens, 4,000 draws."""
    lm = tiny_lm()
    words = lm.tokenizer.convert_tokens_to_ids(["heat", "mix", "cool"])
    shy = lm
    for token in words:
        shy = _biased(shy, token, 12.0)
    taken = _sample(shy, prompts=PROMPTS[:1], group=4000, max_new_tokens=2)
    counts = Counter(taken.answers)
    prompt = taken.prompts[0]
    for pair in product(words, repeat=2):
        with torch.no_grad():
            logits = shy.model(torch.tensor([[*prompt, *pair]])).logits[0]
        logs = tempered(logits[-3:-1], 1.0)
        p = float((logs[0, pair[0]] + logs[1, pair[1]]).exp())
        assert counts[pair] / 4000 == pytest.approx(p, abs=4 * (p * (1 - p) / 4000) ** 0.5)


def test_rows_of_a_prompt_follow_one_another_and_prompts_are_read_once() -> None:
    lm = tiny_lm()
    taken = _sample(lm, group=3, max_new_tokens=4)
    heads = [tuple(lm.prompt_ids(prompt)) for prompt in PROMPTS]
    assert taken.prompts == tuple(head for head in heads for _ in range(3))
    assert taken.tokens == sum(map(len, heads)) + sum(map(len, taken.answers))


def test_a_long_prompt_loses_its_start_and_an_answer_takes_half_at_most() -> None:
    lm = tiny_lm()  # 64 tokens of context
    head = lm.prompt_ids("song " * 80)
    taken = sample(lm, [head], generator=torch.Generator().manual_seed(0), max_new_tokens=999)
    assert taken.prompts[0] == tuple(head[-32:])
    assert len(taken.answers[0]) <= 32


@pytest.mark.parametrize("name", ["mamba", "qwen3_next", "recurrent_gemma", "jamba"])
def test_a_state_that_cannot_be_copied_is_made_anew(name: str) -> None:
    """Recurrent and hybrid: the same answers as ``generate``, and the policy's own chances."""
    from benchmarks._architectures import ARCHITECTURES

    lm = next(one for one in ARCHITECTURES if one.name == name).build()
    texts = ["how is alloy n3 made ?", "river n4 ?"]
    prompts = [lm.prompt_ids(text) for text in texts]
    greedy = sample(
        lm, prompts, generator=torch.Generator(), max_new_tokens=6, temperature=0.0, group=1
    )
    assert greedy.texts(lm) == lm.generate(texts, max_new_tokens=6)
    drawn = sample(
        lm, prompts, generator=torch.Generator().manual_seed(0), group=3, max_new_tokens=6
    )
    assert len(drawn.answers) == 6
    assert drawn.tokens == sum(map(len, prompts)) + sum(map(len, drawn.answers))
    for prompt, answer, logprobs in zip(drawn.prompts, drawn.answers, drawn.logprobs, strict=True):
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            chances = lm.model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        own = chances[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None])[:, 0]
        assert_close(torch.tensor(logprobs), own, rtol=1e-3, atol=1e-4)
