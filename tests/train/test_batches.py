"""From examples to batches: nothing lost, nothing twice, nothing supervised by accident."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest
import torch
from torch import Tensor

from titer.conformance import Architecture, tiny_data, tiny_lm
from titer.core.data import Data, Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.train.batches import (
    IGNORED,
    Batch,
    Drawn,
    bundles,
    collate,
    cycle,
    encode_all,
    pack,
)
from titer.train.objectives import cross_entropy


def _batches(lm: LM, examples: tuple[Example, ...], size: int, count: int) -> list[Batch]:
    stream = cycle(lm, examples, batch_size=size, rng=random.Random(1))
    return list(islice(stream, count))


@pytest.mark.parametrize("size", [1, 3, 5, 14])
def test_every_example_comes_once_an_epoch(lm: LM, data: Data, size: int) -> None:
    drawn = [name for batch in _batches(lm, data.harmful, size, 14) for name in batch.ids]
    epochs = [drawn[start : start + 14] for start in range(0, 14 * size, 14)]
    assert all(Counter(epoch) == Counter(e.id for e in data.harmful) for epoch in epochs)
    if size > 1:
        assert epochs[0] != epochs[1]


def test_batches_have_one_size_whatever_the_epoch(lm: LM, data: Data) -> None:
    assert {len(batch.ids) for batch in _batches(lm, data.harmful, 4, 9)} == {4}
    assert {len(batch.ids) for batch in _batches(lm, data.harmful, 99, 3)} == {14}


def test_order_is_the_generator_s_and_nothing_else_s(lm: LM, data: Data) -> None:
    def order(seed: int) -> list[tuple[str, ...]]:
        stream = cycle(lm, data.harmful, batch_size=3, rng=random.Random(seed))
        return [batch.ids for batch in islice(stream, 6)]

    assert order(1) == order(1) != order(2)


def test_rows_are_padded_on_the_right_and_only_answers_are_supervised(lm: LM, data: Data) -> None:
    rows = encode_all(lm, data.harmful[:2])
    short, long = sorted((row for _, row in rows), key=lambda row: len(row.ids))
    assert len(short.ids) < len(long.ids)
    batch = collate([("s", short), ("l", long)], lm.tokenizer.pad_token_id, lm.device)
    width, length = len(long.ids), len(short.ids)
    assert batch.input_ids.shape == batch.labels.shape == batch.attention_mask.shape == (2, width)
    assert batch.input_ids[0].tolist() == [*short.ids, *[1] * (width - length)]
    assert batch.attention_mask.sum(1).tolist() == [length, width]
    assert batch.labels[0, : short.prompt].tolist() == [IGNORED] * short.prompt
    assert batch.labels[0, short.prompt : length].tolist() == list(short.ids[short.prompt :])
    assert set(batch.labels[0, length:].tolist()) == {IGNORED}
    assert batch.labels[1, long.prompt :].tolist() == list(long.ids[long.prompt :])
    assert batch.tokens == length + width
    assert batch.ids == ("s", "l")


def test_the_end_token_is_supervised_even_where_it_pads(lm: LM, data: Data) -> None:
    end = lm.tokenizer.eos_token_id
    batch = collate(encode_all(lm, data.harmful[:2]), end, lm.device)
    assert (batch.labels == end).sum().item() == 2


def test_padding_does_not_change_what_a_row_gets(lm: LM, data: Data) -> None:
    rows = encode_all(lm, data.harmful[:2])
    both = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        wide = lm.model(**both.inputs()).logits
        for index, row in enumerate(rows):
            one = collate([row], lm.tokenizer.pad_token_id, lm.device)
            alone = lm.model(**one.inputs()).logits[0]
            assert torch.allclose(wide[index, : len(alone)], alone, atol=1e-6)


def test_what_does_not_fit_the_context_is_cut_and_none_is_left_out(lm: LM) -> None:
    def example(name: str, words: int) -> Example:
        return Example(id=name, prompt=" ".join(["alloy"] * words), answer="heat mix cool")

    rows = dict(encode_all(lm, [example("fits", 5), example("cut", 60), example("gone", 80)]))
    assert set(rows) == {"fits", "cut", "gone"}
    for name in ("cut", "gone"):
        assert len(rows[name].ids) == 64
        assert rows[name].ids[-4:] == rows["fits"].ids[-4:]
        assert len(rows[name].ids) - rows[name].prompt == 4


def test_no_examples_is_said_before_the_first_step(lm: LM) -> None:
    with pytest.raises(BadInput, match="no retain examples"):
        cycle(lm, (), batch_size=2, rng=random.Random(0), role="retain")


def test_a_bundle_adds_up(lm: LM, data: Data) -> None:
    streams = {
        name: cycle(lm, examples, batch_size=3, rng=random.Random(7))
        for name, examples in (("forget", data.harmful), ("retain", data.retain))
    }
    first = next(bundles(**streams))
    assert len(first.ids) == 6
    assert {name.split("-")[0] for name in first["forget"].ids} == {"alloy"}
    assert {name.split("-")[0] for name in first["retain"].ids} == {"river"}
    assert first.tokens == first["forget"].tokens + first["retain"].tokens


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
def test_packed_rows_have_the_loss_and_the_gradient_of_padded_ones(
    architecture: Architecture,
) -> None:
    lm = tiny_lm(architecture)
    rows = encode_all(lm, tiny_data().harmful)
    assert len({len(row.ids) for _, row in rows}) > 1
    found: list[tuple[Tensor, list[Tensor]]] = []
    for batch in (
        collate(rows, lm.tokenizer.pad_token_id, lm.device),
        pack(lm, [Drawn(tuple(rows))]),
    ):
        loss = cross_entropy(lm.model(**batch.inputs(), use_cache=False).logits, batch.labels)
        found.append((loss, list(torch.autograd.grad(loss, list(lm.model.parameters())))))
        assert batch.tokens == sum(len(row.ids) for _, row in rows)
    (padded, slow), (packed, fast) = found
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
def test_a_packed_sequence_sees_only_itself(architecture: Architecture) -> None:
    lm = tiny_lm(architecture)
    rows = encode_all(lm, tiny_data().harmful)
    batch = pack(lm, [Drawn(tuple(rows))])
    assert len(batch.input_ids) < len(rows)
    with torch.no_grad():
        together = lm.model(**batch.inputs()).logits
    for _, row in rows:
        length = len(row.ids)
        with torch.no_grad():
            alone = lm.model(input_ids=torch.tensor([row.ids])).logits[0]
        windows = batch.input_ids.unfold(1, length, 1)
        found = (windows == torch.tensor(row.ids)).all(-1).nonzero()
        assert len(found) == 1
        at, start = found[0].tolist()
        torch.testing.assert_close(together[at, start : start + length], alone)
