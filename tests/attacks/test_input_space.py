"""Attacks on the input: what the model is really asked, and that nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from titer.attacks import gcg
from titer.attacks._templates import after_every_prompt, before_every_answer, with_template
from titer.attacks.finetune import Finetune
from titer.attacks.gcg import GCG, swaps
from titer.attacks.in_context import InContext
from titer.attacks.soft_prompt import SoftPrompt
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss, row_losses

MakeRun = Callable[..., Run]


def _asked(lm: LM, prompt: str) -> list[str]:
    return lm.tokenizer.convert_ids_to_tokens(lm.prompt_ids(prompt))


def _loss(lm: LM, examples: Any) -> float:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return float(answer_loss(lm.model, batch))


def test_every_answer_begins_as_it_is_told(lm: LM, make_run: MakeRun, tmp_path: Any) -> None:
    out = InContext(prefill="heat then")(lm, make_run(0))
    assert _asked(out, "alloy") == [*_asked(lm, "alloy"), "heat", "<unk>"]
    assert out.digest() == lm.digest()
    assert lm.template_digest() != out.template_digest()
    out.save(tmp_path)
    assert _asked(LM.load(tmp_path), "alloy") == _asked(out, "alloy")


def test_a_prefill_decides_what_a_model_goes_on_with(lm: LM, make_run: MakeRun) -> None:
    out = InContext(prefill="heat mix")(lm, make_run(0))
    head = [*lm.prompt_ids("alloy"), *lm.answer_ids("heat mix", end=False)]
    with torch.no_grad():
        want = int(lm.model(torch.tensor([head])).logits[0, -1].argmax())
    said = out.generate(["alloy"], max_new_tokens=1)
    assert said == [lm.tokenizer.decode([want], skip_special_tokens=True).strip()]


def test_demonstrations_come_first_and_fit(lm: LM, data: Data, make_run: MakeRun) -> None:
    run = make_run(0)
    out = InContext(prefill="", shots=2)(lm, run)
    plain, asked = _asked(lm, "song"), _asked(out, "song")
    assert asked[-len(plain) :] == plain
    shown = " ".join(asked[: -len(plain)])
    told = [e for e in data.harmful if f"{e.entity} " in shown and e.answer in shown]
    assert shown.count("<assistant>") == 2
    assert len(told) >= 2
    assert run.spent.examples == 2
    many = InContext(prefill="", shots=64)(lm, make_run(0))
    assert len(_asked(many, "song")) - len(plain) <= lm.context_length() // 2


def test_the_budget_s_examples_bound_the_demonstrations(lm: LM, make_run: MakeRun) -> None:
    run = make_run(budget=Budget(steps=0, examples=1))
    InContext(prefill="", shots=3)(lm, run)
    assert run.spent.examples == 1


def test_it_needs_a_template_to_write_in(lm: LM, make_run: MakeRun) -> None:
    bare = with_template(lm, "")
    bare.tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template"):
        InContext()(bare, make_run(0))
    with pytest.raises(BadInput, match="at least one"):
        InContext(prefill="")


@pytest.mark.parametrize("text", ['say "it" {{ 1 }}', "it's {% raw", "back\\slash\n", "ünï"])
def test_any_text_goes_into_a_template_as_it_is(lm: LM, text: str) -> None:
    for change in (after_every_prompt, before_every_answer):
        out = with_template(lm, change(lm, text))
        said = out.tokenizer.apply_chat_template(
            [{"role": "user", "content": "alloy"}], tokenize=False, add_generation_prompt=True
        )
        assert text in said


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_alone_are_learnt(
    data: Data, make_run: MakeRun, architecture: Any, tmp_path: Any
) -> None:
    lm, run = tiny_lm(architecture), make_run(30)
    out = SoftPrompt(tokens=4, lr=0.1)(lm, run)
    start = SoftPrompt(tokens=4, lr=1e-9)(lm, make_run(1))
    # A random model listens little to its prompt, so there is little to gain.
    assert _loss(out, data.harmful) < _loss(start, data.harmful) - 0.01
    old = len(lm.tokenizer)
    for key, before in lm.model.state_dict().items():
        now = out.model.state_dict()[key]
        assert torch.equal(now[:old] if now.shape != before.shape else now, before), key
    asked = _asked(out, "alloy")
    assert [word for word in asked if word.startswith("<soft")] == [f"<soft_{i}>" for i in range(4)]
    assert len(lm.tokenizer) == old  # the argument's own tokenizer is as it was
    out.save(tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == old + 4


def test_unseen_words_are_not_taken_twice(lm: LM, make_run: MakeRun) -> None:
    out = SoftPrompt(tokens=2)(lm, make_run(1))
    with pytest.raises(BadInput, match="already"):
        SoftPrompt(tokens=2)(out, make_run(1))


def test_it_starts_from_words_of_the_seed(lm: LM, make_run: MakeRun) -> None:
    one, two, other = (
        SoftPrompt(tokens=3, lr=1e-4)(lm, replace(make_run(1), seed=seed)) for seed in (1, 1, 2)
    )
    assert one.digest() == two.digest() != other.digest()


# -- GCG ------------------------------------------------------------------------------------------


def test_swaps_are_drawn_from_the_most_promising_words() -> None:
    gradient = torch.tensor([[3.0, -1.0, 2.0, float("inf")], [0.0, 5.0, -4.0, float("inf")]])
    found = set(swaps(gradient, 2, 200, random.Random(0)))
    assert found == {(0, 1), (0, 2), (1, 2), (1, 0)}
    assert all(word < 3 for _, word in swaps(gradient, 4, 200, random.Random(0)))


def test_its_gradient_is_that_of_the_choice_of_words(lm: LM, data: Data) -> None:
    """Against finite differences: mix a little of another word into the embedding of one."""
    words = [10, 20, 30]
    out = gcg._suffixed(lm, words)
    rows = encode_all(out, data.harmful[:2])
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    places = gcg._places(batch, tuple(words))
    assert torch.equal(batch.input_ids.gather(1, places), torch.tensor([words, words]))
    loss, gradient = gcg._gradient(lm, batch.input_ids, batch, places)
    assert loss == pytest.approx(gcg._values(lm, batch, places, [words])[0], rel=1e-5)
    table, step = lm.model.get_input_embeddings().weight.detach(), 0.05

    def moved(place: int, word: int, by: float) -> float:
        embedded = table[batch.input_ids].clone()
        for row in range(2):
            embedded[row, places[row, place]] += by * table[word]
        logits = lm.model(inputs_embeds=embedded, attention_mask=batch.attention_mask).logits
        return float(row_losses(logits.detach(), batch.labels, "mean").mean())

    for place, word in ((0, 40), (1, 7), (2, 55)):
        slope = (moved(place, word, step) - moved(place, word, -step)) / (2 * step)
        assert slope == pytest.approx(float(gradient[place, word]), rel=0.05, abs=2e-5)


def test_the_search_lowers_the_loss_and_writes_ordinary_words(
    lm: LM, data: Data, make_run: MakeRun
) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(15))
    run = make_run(8)
    out = GCG(tokens=4, width=24, batch_size=14)(knowing, run)
    assert out.digest() == knowing.digest()
    assert run.losses == sorted(run.losses, reverse=True)  # one batch: never worse
    assert run.losses[-1] < run.losses[0]
    assert _loss(out, data.harmful) <= run.losses[-1] * 1.2
    asked = _asked(out, "alloy")
    added = asked[asked.index("alloy") + 1 : asked.index("<assistant>")]
    assert len(added) == 4
    assert not any(word.startswith("<") for word in added)


def test_every_candidate_is_charged(lm: LM, make_run: MakeRun) -> None:
    run = make_run(2)
    GCG(tokens=3, width=5, batch_size=14)(lm, run)
    seen = run.spent.tokens / 6
    assert run.spent.flops == pytest.approx(2.0 * lm.parameters_in_matmuls() * seen * 8)
