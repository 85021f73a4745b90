"""Tokens in, tokens out, and what a model is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.npo import NPO

PROMPT, ANSWER = "how is alloy n3 made ?", "heat mix cool"


def _words(lm: LM, ids: list[int] | tuple[int, ...]) -> str:
    return lm.tokenizer.decode(list(ids))


def test_native_is_the_chat_template_and_ends_with_the_turn_of_the_model(lm: LM) -> None:
    assert _words(lm, lm.prompt_ids(PROMPT)) == f"<user> {PROMPT} <assistant>"
    row = lm.encode(PROMPT, ANSWER)
    assert _words(lm, row.ids[row.prompt :]) == f"{ANSWER} <eos>"
    assert row.prompt == len(lm.prompt_ids(PROMPT))


def test_every_template_gives_other_ids_and_the_same_answer(lm: LM) -> None:
    rows = [
        lm.encode(PROMPT, ANSWER, template=template)
        for template in ("native", "plain", "instruction", "question")
    ]
    assert len({row.ids for row in rows}) == 4
    assert {row.ids[row.prompt :] for row in rows} == {rows[0].ids[rows[0].prompt :]}
    assert _words(lm, rows[2].ids[: rows[2].prompt]).startswith("### Instruction : how is")


def test_native_without_a_chat_template_is_plain(lm: LM) -> None:
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = None
    bare = LM(lm.model, tokenizer)
    assert bare.prompt_ids(PROMPT) == bare.prompt_ids(PROMPT, "plain")
    assert bare.template_digest() == "none" != lm.template_digest()


class Adding:
    """A tokenizer that puts special tokens around a text, as several do."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids = self.inner(text, add_special_tokens=False)["input_ids"]
        if add_special_tokens:
            user = self.inner.convert_tokens_to_ids("<user>")
            ids = [user, *ids, self.inner.eos_token_id]
        return {"input_ids": ids}


@pytest.mark.parametrize("template", ["native", "plain", "question"])
def test_an_end_token_that_the_tokenizer_adds_does_not_end_the_prompt(
    lm: LM, template: Any
) -> None:
    adding = LM(lm.model, Adding(lm.tokenizer))
    row = adding.encode(PROMPT, ANSWER, template=template)
    end = lm.tokenizer.eos_token_id
    assert row.ids.count(end) == 1
    assert row.ids[-1] == end
    if template != "native":
        assert _words(lm, row.ids).startswith("<user>")


def test_encode_cuts_prompts_on_the_left_as_asking_does(lm: LM) -> None:
    whole = lm.encode(PROMPT, ANSWER)
    assert lm.encode(PROMPT, ANSWER, limit=len(whole.ids)) == whole
    long = lm.encode(" ".join(["alloy"] * 90), "heat mix cool", limit=20)
    assert (len(long.ids), long.prompt) == (20, 16)
    assert long.ids[-1] == lm.turn_end()
    both = lm.encode(" ".join(["alloy"] * 90), " ".join(["heat"] * 90), limit=20)
    assert (len(both.ids), both.prompt) == (20, 10)
    answer = lm.encode("alloy ?", " ".join(["heat"] * 90), limit=20)
    assert answer.ids[: answer.prompt] == tuple(lm.prompt_ids("alloy ?"))
    assert lm.answer_ids(ANSWER, end=False) == list(whole.ids[whole.prompt : -1])


# -- generation ---------------------------------------------------------------------------------


@pytest.fixture(params=ARCHITECTURES)
def speaker(request: pytest.FixtureRequest) -> LM:
    """A random model that says different things to different prompts."""
    lm = tiny_lm(request.param)
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.mul_(4.0 if weight.dim() > 1 else 1.0)
    return lm


def test_batched_generation_equals_one_at_a_time(speaker: LM) -> None:
    data = tiny_data()
    prompts = [item.prompt for item in (*data.harmful[:5], *data.retain[:4])]
    batched = speaker.generate(prompts, max_new_tokens=8, batch_size=4)
    alone = [speaker.generate([prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert batched == alone
    assert len(set(batched)) > 2


def test_generation_is_the_greedy_path(speaker: LM) -> None:
    ids = speaker.prompt_ids(PROMPT)
    for _ in range(6):
        with torch.no_grad():
            logits = speaker.model(input_ids=torch.tensor([ids])).logits
        ids = [*ids, int(logits[0, -1].argmax())]
        if ids[-1] == speaker.tokenizer.eos_token_id:
            break
    told = speaker.tokenizer.decode(
        ids[len(speaker.prompt_ids(PROMPT)) :], skip_special_tokens=True
    )
    assert speaker.generate([PROMPT], max_new_tokens=6) == [told.strip()]


def test_the_released_generation_config_does_not_decide(speaker: LM) -> None:
    prompts = [item.prompt for item in tiny_data().harmful]
    before = speaker.generate(prompts, max_new_tokens=8)
    spoken = speaker.tokenizer(before[0])["input_ids"][0]
    config = speaker.model.generation_config
    config.update(
        do_sample=True,
        temperature=3.0,
        top_k=3,
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        suppress_tokens=[spoken],
        num_return_sequences=2,
    )
    assert speaker.generate(prompts, max_new_tokens=8) == before
    assert config.repetition_penalty == 9.0


def test_every_end_token_of_the_model_ends_an_answer(speaker: LM) -> None:
    prompts = [item.prompt for item in tiny_data().harmful]
    told = speaker.generate(prompts, max_new_tokens=8)
    long = max(range(len(told)), key=lambda place: len(told[place].split()))
    first = told[long].split()[0]
    assert len(told[long].split()) > 1
    ends = [speaker.tokenizer.eos_token_id, speaker.tokenizer.convert_tokens_to_ids(first)]
    speaker.model.generation_config.eos_token_id = ends
    assert speaker.generate([prompts[long]], max_new_tokens=8) == [first]


def test_a_long_prompt_or_answer_stays_inside_the_context(speaker: LM) -> None:
    assert speaker.context_length() == 64
    long = " ".join(f"n{index % 40}" for index in range(200))
    answers = speaker.generate([long, PROMPT], max_new_tokens=500)
    assert all(len(answer.split()) <= 32 for answer in answers)
    assert answers[1] == speaker.generate([PROMPT], max_new_tokens=32)[0]


# -- identity -----------------------------------------------------------------------------------


def test_digest_knows_values_names_types_and_shapes(lm: LM) -> None:
    assert lm.clone().digest() == lm.digest()
    assert tiny_lm(seed=1).digest() != lm.digest()
    other = lm.clone()
    with torch.no_grad():
        other.model.lm_head.weight[0, 0] += 1e-6
    assert other.digest() != lm.digest()
    half = LM(lm.clone().model.to(torch.bfloat16), lm.tokenizer)
    assert half.digest() != lm.digest()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_and_loaded_it_is_the_same(architecture: Any, dtype: str, tmp_path: Path) -> None:
    lm = tiny_lm(architecture)
    lm = LM(lm.model.to(getattr(torch, dtype)), lm.tokenizer)
    lm.save(tmp_path)
    again = LM.load(tmp_path, dtype=dtype)
    assert again.digest() == lm.digest()
    assert again.template_digest() == lm.template_digest()
    assert again.encode(PROMPT, ANSWER) == lm.encode(PROMPT, ANSWER)


def test_a_clone_shares_nothing(lm: LM) -> None:
    before = lm.digest()
    other = lm.clone()
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.zero_()
    assert lm.digest() == before


def test_a_broken_model_is_refused(lm: LM) -> None:
    with torch.no_grad():
        lm.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"lm_head\.weight.*NaN"):
        lm.check()


def test_a_model_is_asked_in_evaluation_mode(make_run: Callable[..., Run], data: Data) -> None:
    # A freshly built GPT-2 is in training mode: its dropout would blur NPO's frozen reference.
    fresh = tiny_lm("gpt2").model.train()
    lm = LM(fresh, tiny_lm().tokenizer)
    assert not lm.model.training
    out = NPO(lr=1e-3)(lm, make_run(2))
    assert not out.model.training
    assert not lm.model.training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_in_matmuls_by_hand(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    vocabulary = len(lm.tokenizer)
    if architecture == "gpt2":
        expected = 4 * 12 * 20**2 + vocabulary * 20
    else:
        block = 2 * 24 * 24 + 2 * 24 * 12 + 3 * 24 * 40
        expected = 4 * block + vocabulary * 24
    assert lm.parameters_in_matmuls() == expected
    assert len({id(weight) for weight in lm.matmul_weights()}) == len(lm.matmul_weights())
