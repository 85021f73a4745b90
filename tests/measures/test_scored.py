"""Choice, cloze and perplexity: records and scores on a model whose chances are set by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from titer.conformance import ARCHITECTURES, Architecture, tiny_data, tiny_lm
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.measures.choice import Choice
from titer.measures.cloze import Cloze
from titer.measures.perplexity import Perplexity

ITEMS = tiny_data().harmful[:8]


@torch.no_grad()
def loglik(lm: LM, head: Sequence[int], tail: Sequence[int]) -> tuple[float, bool]:
    """Of an answer, a token at a time, each after a forward pass of its own."""
    total, exact = 0.0, True
    for place, token in enumerate(tail):
        logits = lm.model(torch.tensor([[*head, *tail[:place]]])).logits[0, -1]
        total += float(logits.double().log_softmax(-1)[token])
        exact &= int(logits.argmax()) == token
    return total, exact


def one_word(items: Sequence[Example]) -> list[Example]:
    return [
        dataclasses.replace(item, answer="heat", choices=("heat", "mix", "cool")) for item in items
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("single", [True, False])
def test_records_are_those_of_answers_alone(architecture: Architecture, single: bool) -> None:
    lm = tiny_lm(architecture)
    items = one_word(ITEMS) if single else ITEMS
    chosen, closed = Choice().collect(lm, items), Cloze().collect(lm, items)
    said = Perplexity().collect(lm, items)
    for item, choice, cloze, told in zip(items, chosen, closed, said, strict=True):
        head = lm.prompt_ids(item.prompt)
        tails = [lm.answer_ids(text, end=False) for text in item.choices]
        assert choice["tokens"] == [len(tail) for tail in tails]
        assert choice["loglik"] == pytest.approx(
            [loglik(lm, head, tail)[0] for tail in tails], abs=1e-4
        )
        tail = lm.answer_ids(item.answer, end=False)
        total, exact = loglik(lm, head, tail)
        assert (cloze["exact"], cloze["tokens"]) == (exact, len(tail))
        assert cloze["loglik"] == pytest.approx(total, abs=1e-4)
        ended = lm.answer_ids(item.answer, end=True)
        assert told["tokens"] == len(ended)
        assert told["loglik"] == pytest.approx(loglik(lm, head, ended)[0], abs=1e-4)


def always(lm: LM, word: str) -> LM:
    """A model that says one word whatever it is asked."""
    token = lm.tokenizer.convert_tokens_to_ids(word)
    nn.init.zeros_(lm.model.lm_head.weight)
    lm.model.model.norm.weight.data.zero_()
    lm.model.lm_head.bias = nn.Parameter(torch.zeros(lm.model.config.vocab_size))
    with torch.no_grad():
        lm.model.lm_head.bias[token] = 20.0
    return lm


def test_the_likeliest_choice_and_the_word_that_would_be_said(lm: LM) -> None:
    lm = always(lm, "mix")
    right = [dataclasses.replace(item, answer="mix") for item in one_word(ITEMS)]
    wrong = one_word(ITEMS)
    for items, score in ((right, 1.0), (wrong, 0.0)):
        assert Choice().judge(items, Choice().collect(lm, items)) == [score] * len(items)
        assert Cloze().judge(items, Cloze().collect(lm, items)) == [score] * len(items)


def test_equal_choices_tie_to_the_bit(lm: LM) -> None:
    items = [dataclasses.replace(ITEMS[0], choices=("heat mix", "heat mix", "cool"), answer="cool")]
    (record,) = Choice().collect(lm, items)
    assert record["loglik"][0] == record["loglik"][1]


def test_a_model_that_knows_nothing_is_at_chance_and_perplexed_by_every_word(lm: LM) -> None:
    nn.init.zeros_(lm.model.lm_head.weight)
    items = one_word(ITEMS)
    assert Choice().judge(items, Choice().collect(lm, items)) == pytest.approx([1 / 3] * len(items))
    words = lm.model.config.vocab_size
    assert Perplexity().judge(items, Perplexity().collect(lm, items)) == pytest.approx(
        [words] * len(items), rel=1e-5
    )


def test_normalised_choices_are_compared_by_token(lm: LM) -> None:
    nn.init.zeros_(lm.model.lm_head.weight)
    items = [dataclasses.replace(ITEMS[0], choices=("heat", "heat mix cool"), answer="heat")]
    (record,) = Choice().collect(lm, items)
    assert record["loglik"] == pytest.approx(
        [-math.log(lm.model.config.vocab_size) * n for n in (1, 3)], rel=1e-5
    )
    assert Choice().judge(items, [record]) == [1.0]
    even = {"loglik": [-1.0, -3.0], "tokens": [1, 3]}
    assert Choice(normalise=True).judge(items, [even]) == [0.5]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompts_longer_than_the_context_are_cut_on_the_left(architecture: Architecture) -> None:
    lm = tiny_lm(architecture)
    long = " ".join(f"n{index % 40}" for index in range(3 * lm.context_length()))
    item = dataclasses.replace(ITEMS[0], prompt=long)
    room = lm.context_length()
    head = lm.prompt_ids(long)
    (record,) = Choice().collect(lm, [item])
    for text, got in zip(item.choices, record["loglik"], strict=True):
        tail = lm.answer_ids(text, end=False)
        kept = head[len(tail) - room :]
        assert got == pytest.approx(loglik(lm, kept, tail)[0], abs=1e-4)
    (cloze,) = Cloze().collect(lm, [item])
    assert cloze["loglik"] == pytest.approx(record["loglik"][0], abs=1e-5)
    (whole,) = Perplexity().collect(lm, [item])
    ended = lm.answer_ids(item.answer, end=True)
    assert whole["tokens"] == len(ended)
    expected = loglik(lm, head[len(ended) - room :], ended)[0]
    assert whole["loglik"] == pytest.approx(expected, abs=1e-4)


def test_an_item_with_one_choice_is_refused(lm: LM) -> None:
    with pytest.raises(BadInput, match="fewer than two choices"):
        Choice().collect(lm, [dataclasses.replace(ITEMS[0], choices=("heat",))])


def test_no_items_no_records(lm: LM) -> None:
    for measure in (Choice(), Cloze(), Perplexity()):
        assert measure.collect(lm, []) == []
        assert measure.collect_each(lm, [], 2) == [[], []]
