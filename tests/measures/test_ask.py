"""Scores of given answers are those of each sequence alone, however they are run."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from titer.conformance import ARCHITECTURES, Architecture, tiny_lm
from titer.core.lm import LM, Encoded, quiet
from titer.measures import _ask
from titer.measures._ask import Score, answer_scores, cut, plain_scores
from titer.nn.trainable import trainable


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Models are tried anew in every test."""
    _ask._ABLE.clear()
    yield
    _ask._ABLE.clear()


def sharp(architecture: Architecture = "llama", dtype: torch.dtype = torch.float64) -> LM:
    """A model whose scores differ by whole nats, so that a leak between sequences shows."""
    lm = tiny_lm(architecture)
    with torch.no_grad():
        for weight in lm.model.parameters():
            if weight.dim() >= 2:
                weight *= 8
    lm.model.to(dtype)
    return lm


@torch.no_grad()
def alone(lm: LM, row: Encoded) -> Score:
    """A row by itself, token by token: the definition."""
    logits = lm.model(torch.tensor([row.ids])).logits[0]
    total, tokens, greedy = 0.0, 0, True
    for place in range(max(1, row.prompt), len(row.ids)):
        chances = torch.log_softmax(logits[place - 1].double(), -1)
        total += float(chances[row.ids[place]])
        tokens += 1
        greedy &= int(logits[place - 1].argmax()) == row.ids[place]
    return Score(total, tokens, greedy)


def some_rows(header: int, seed: int = 0) -> list[Encoded]:
    """Mixed lengths, answers of one token and of many, answers that begin other answers, doubles,
    a row without an answer and rows without a prompt."""
    draw = random.Random(seed)

    def words(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, 60) for _ in range(count))

    start = words(header)
    rows: list[Encoded] = []
    for _ in range(12):
        prompt = start + words(draw.randint(1, 14))
        long = words(draw.randint(2, 9))
        answers = [long, long[:1], long[:2], (*long[:1], 7), *(words(n) for n in (1, 1, 4))]
        rows += [Encoded(prompt + answer, len(prompt)) for answer in answers]
    rows += [rows[3], Encoded(start + words(3), header + 3)]
    if not header:
        rows += [Encoded(words(4), 0), Encoded(words(1), 0), Encoded((), 0)]
    draw.shuffle(rows)
    return rows


def agree(found: Sequence[Score], wanted: Sequence[Score], room: float) -> None:
    assert [score.tokens for score in found] == [score.tokens for score in wanted]
    assert [score.greedy for score in found] == [score.greedy for score in wanted]
    for one, two in zip(found, wanted, strict=True):
        assert one.loglik == pytest.approx(two.loglik, rel=room, abs=room)


def by_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything but the trial of a model is asked row by row."""
    plainly = _ask.plain_scores

    def watched(lm: LM, rows: Sequence[Encoded], **settings: Any) -> list[list[Score]]:
        assert len(rows) in (0, len(_ask._SAMPLE)), "asked row by row"
        return plainly(lm, rows, **settings)

    monkeypatch.setattr(_ask, "plain_scores", watched)


@pytest.mark.parametrize("header", [0, 3, 20])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "room"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_scores_are_those_of_each_row_alone(
    architecture: Architecture,
    header: int,
    dtype: torch.dtype,
    room: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, rows = sharp(architecture, dtype), some_rows(header)
    wanted = [alone(lm, row) if row.ids else Score(0.0, 0, True) for row in rows]
    assert len({round(score.loglik, 1) for score in wanted}) > 30
    by_trees(monkeypatch)
    (found,) = answer_scores(lm, rows)
    agree(found, wanted, room)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_row_by_row_scores_are_the_same(architecture: Architecture) -> None:
    lm, rows = sharp(architecture), some_rows(5)
    (found,) = plain_scores(lm, rows, tokens=64)
    agree(found, [alone(lm, row) for row in rows], 1e-9)


def test_greedy_answers_are_known_as_such() -> None:
    lm = sharp()
    ids = lm.model.generate(
        torch.tensor([[9, 12, 30]]), max_new_tokens=6, do_sample=False, pad_token_id=1
    )[0].tolist()
    off = [*ids[:-1], (ids[-1] + 1) % 60]
    (found,) = answer_scores(lm, [Encoded(tuple(ids), 3), Encoded(tuple(off), 3)])
    assert [score.greedy for score in found] == [True, False]


def test_equal_logits_have_one_first_choice() -> None:
    """A model that says nothing says no answer by heart."""
    lm = sharp()
    nn.init.zeros_(lm.model.lm_head.weight)
    rows = [Encoded((9, 12, token), 2) for token in range(1, 20)]
    (found,) = answer_scores(lm, rows)
    assert sum(score.greedy for score in found) <= 1


def test_a_prompt_is_run_once_for_its_answers_and_a_header_for_its_prompts() -> None:
    lm = sharp()
    rows = some_rows(20)
    answer_scores(lm, rows)
    sizes: list[int] = []
    hook = lm.model.model.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    answer_scores(lm, rows)
    hook.remove()
    beginnings = {row.ids[:n] for row in rows for n in range(1, len(row.ids))}
    assert len(beginnings) <= sum(sizes) < 1.4 * len(beginnings)
    assert sum(sizes) < sum(len(row.ids) for row in rows) / 4


def test_logits_are_taken_only_where_a_token_is_asked_for() -> None:
    lm, rows = sharp(), some_rows(0)
    taken: list[int] = []
    answer_scores(lm, rows)
    hook = lm.model.lm_head.register_forward_hook(
        lambda _, __, out: taken.append(out.numel() // out.shape[-1])
    )
    answer_scores(lm, rows)
    hook.remove()
    asked = {row.ids[:n] for row in rows for n in range(max(1, row.prompt), len(row.ids))}
    assert sum(taken) <= 1.2 * len(asked)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("header", [0, 20])
def test_copies_of_a_model_score_alike(architecture: Architecture, header: int) -> None:
    lm, rows = sharp(architecture), some_rows(header)
    (one,) = answer_scores(lm, rows)
    three = answer_scores(lm, rows, copies=3)
    assert len(three) == 3
    for member in three:
        agree(member, one, 1e-9)
    for member in plain_scores(lm, rows, copies=3):
        agree(member, one, 1e-9)


class _Members(nn.Module):
    """Several models behind one call: a third of the batch for each of three."""

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config, self.dtype = members[0].config, members[0].dtype

    def forward(self, past_key_values: Any = None, use_cache: bool = False, **inputs: Any) -> Any:
        count = len(self.members)
        parts = {key: value.chunk(count) for key, value in inputs.items() if torch.is_tensor(value)}
        rest = {key: value for key, value in inputs.items() if key not in parts}
        caches: list[Any] = [None] * count
        if past_key_values is not None:
            layers = [(layer.keys, layer.values) for layer in past_key_values.layers]
            caches = [
                hf.DynamicCache([(k.chunk(count)[n], v.chunk(count)[n]) for k, v in layers])
                for n in range(count)
            ]
        outs = [
            member(
                **{key: value[n] for key, value in parts.items()},
                **rest,
                past_key_values=caches[n],
                use_cache=use_cache,
            )
            for n, member in enumerate(self.members)
        ]
        joined: Any = None
        if use_cache:
            stacks = zip(*(out.past_key_values.layers for out in outs), strict=True)
            joined = hf.DynamicCache(
                [(torch.cat([p.keys for p in s]), torch.cat([p.values for p in s])) for s in stacks]
            )
        logits = torch.cat([out.logits for out in outs])
        return hf.modeling_outputs.CausalLMOutputWithPast(logits=logits, past_key_values=joined)


@pytest.mark.parametrize("header", [0, 20])
def test_members_are_told_apart(header: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of member 0 first: each list of scores is that of its own member."""
    rows, members = some_rows(header), [sharp() for _ in range(3)]
    with torch.no_grad():
        for number, lm in enumerate(members):
            lm.model.lm_head.weight.mul_(1 + number)
    wanted = [answer_scores(lm, rows)[0] for lm in members]
    stacked = LM(_Members([lm.model for lm in members]), members[0].tokenizer)
    by_trees(monkeypatch)
    found = answer_scores(stacked, rows, copies=3)
    assert found[0] != found[1] != found[2]
    for got, expected in zip(found, wanted, strict=True):
        agree(got, expected, 1e-9)


# -- models that cannot be asked by trees -----------------------------------------------------


def other(model: Any) -> LM:
    return LM(model.eval().to(torch.float64), tiny_lm().tokenizer, "other")


SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "pad_token_id": 1, "eos_token_id": 2}


def blooming() -> LM:
    """Position biases that are worked out from the mask (ALiBi)."""
    return other(hf.BloomForCausalLM(hf.BloomConfig(n_layer=2, n_head=2, **SMALL)))


def recurrent() -> LM:
    """A state that runs along the row, whatever the mask says."""
    return other(hf.MambaForCausalLM(hf.MambaConfig(num_hidden_layers=2, state_size=4, **SMALL)))


def windowed(window: int) -> LM:
    shape = {"intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.MistralConfig(sliding_window=window, num_key_value_heads=2, **shape, **SMALL)
    return other(hf.MistralForCausalLM(config))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [blooming, recurrent, lambda: windowed(5)])
def test_other_models_are_asked_row_by_row(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        lm = build()
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.mul_(3.0 if weight.dim() >= 2 else 1.0)
    rows = [row for row in some_rows(20) if row.ids]
    (found,) = answer_scores(lm, rows)
    agree(found, [alone(lm, row) for row in rows], 1e-6)  # Mamba's head rounds to float32
    monkeypatch.setattr(_ask, "_tree_scores", None)
    answer_scores(lm, rows)


def test_within_its_window_a_model_is_asked_by_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = windowed(60)
    rows = some_rows(20)
    by_trees(monkeypatch)
    (found,) = answer_scores(lm, rows)
    agree(found, [alone(lm, row) for row in rows], 1e-8)


def test_soft_capped_logits_are_the_models_own() -> None:
    """The head is the model's, with whatever it does to its logits."""
    shape = {"intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.Gemma2Config(
        **SMALL, **shape, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = other(hf.Gemma2ForCausalLM(config))
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.mul_(50)
    rows = some_rows(0)[:30]
    (found,) = answer_scores(lm, rows)
    agree(found, [alone(lm, row) for row in rows], 1e-6)  # its norms are in single precision


def test_a_model_that_swallows_what_it_is_told_is_asked_row_by_row() -> None:
    """All logits where a few were asked for."""
    lm = sharp()
    inner = lm.model.forward
    lm.model.forward = lambda *ids, logits_to_keep=0, **inputs: inner(*ids, **inputs)
    rows = some_rows(0)[:20]
    (found,) = answer_scores(lm, rows)
    agree(found, [alone(lm, row) for row in rows if row.ids], 1e-9)
    assert not _ask._ABLE[lm.model]


# -- broken models and edges ------------------------------------------------------------------


def test_one_broken_token_spoils_only_its_own_rows() -> None:
    lm = sharp()
    rows = some_rows(0)
    answer_scores(lm, rows)
    broken = next(row.ids[0] for row in rows if row.ids)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[broken] = float("nan")
    (found,) = answer_scores(lm, rows)
    for row, score in zip(rows, found, strict=True):
        sick = broken in row.ids[:-1] and score.tokens > 0
        assert (score.loglik != score.loglik) == sick


def test_a_model_of_nan_has_scores_of_nan_and_is_not_judged_by_them() -> None:
    lm, rows = sharp(), some_rows(0)
    sound = copy.deepcopy(lm.model.state_dict())
    with torch.no_grad():
        lm.model.lm_head.weight.fill_(float("nan"))
    (found,) = answer_scores(lm, rows)
    assert all(score.loglik != score.loglik for score in found if score.tokens)
    lm.model.load_state_dict(sound)
    assert _ask._takes_trees(lm, 1)


def test_no_rows_and_rows_without_answers() -> None:
    lm = sharp()
    assert answer_scores(lm, []) == [[]]
    nothing = [Encoded((5, 6), 2), Encoded((), 0), Encoded((7,), 0)]
    assert answer_scores(lm, nothing, copies=2) == [[Score(0.0, 0, True)] * 3] * 2


def test_long_prompts_are_cut_on_the_left() -> None:
    head, tail = list(range(100)), [200, 201]
    assert cut(head, tail, 10) == Encoded((*range(92, 100), 200, 201), 8)
    assert cut(head[:8], tail, 10) == Encoded((*range(8), 200, 201), 8)
    assert cut([1, 2], list(range(20)), 10) == Encoded(tuple(range(10, 20)), 1)
    assert cut([], [5, 6], 10) == Encoded((5, 6), 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_as_long_as_the_context(architecture: Architecture) -> None:
    lm = sharp(architecture)
    limit = lm.context_length()
    draw = random.Random(1)
    head = [draw.randrange(5, 60) for _ in range(limit + 20)]
    rows = [cut(head, [draw.randrange(5, 60) for _ in range(n)], limit) for n in (1, 3, 1, 7)]
    (found,) = answer_scores(lm, rows)
    agree(found, [alone(lm, row) for row in rows], 1e-9)


def test_the_mask_needs_no_gradient_and_leaves_the_model_as_it_was() -> None:
    lm = sharp("gpt2")
    before = lm.digest()
    answer_scores(lm, some_rows(20), copies=2)
    assert lm.digest() == before
    assert not lm.model.training
    assert isinstance(next(lm.model.parameters()), Tensor)
    assert all(weight.grad is None for weight in lm.model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_in_training_is_asked_by_trees(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters are in place while a look is taken."""
    lm, rows = sharp(architecture), some_rows(20)
    by_trees(monkeypatch)
    with trainable(lm, "lora", rank=2, seed=0) as ready:
        with torch.no_grad():
            for weight in ready.weights:
                weight.fill_(0.05)
        (found,) = answer_scores(ready.lm, rows)
        agree(found, [alone(ready.lm, row) for row in rows], 1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_eager_attention_takes_trees_too(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, rows = sharp(architecture), some_rows(20)
    lm.model.set_attn_implementation("eager")
    by_trees(monkeypatch)
    (found,) = answer_scores(lm, rows)
    agree(found, [alone(lm, row) for row in rows], 1e-6)  # its softmax is in float32
