"""From examples to padded batches. B rows, T tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM, Encoded, Template

__all__ = ["IGNORED", "Batch", "Bundle", "bundles", "collate", "cycle", "encode_all", "pack"]

IGNORED = -100
"""The label of a token that carries no loss."""


@dataclass(frozen=True)
class Batch:
    """Right-padded token rows.

    ``input_ids``, ``attention_mask``, ``labels``: int64 (B, T); labels are not shifted and hold
    :data:`IGNORED` at prompts and padding. ``ids``: the examples' ids. ``tokens``: real tokens.
    ``positions`` is set where rows are packed end to end into one, see :func:`pack`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    tokens: int
    positions: Tensor | None = None

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a model's forward pass."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return inputs if self.positions is None else {**inputs, "position_ids": self.positions}


@dataclass(frozen=True)
class Bundle:
    """Several batches that make up one step, by name."""

    parts: Mapping[str, Batch]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of every example in the bundle."""
        return tuple(name for part in self.parts.values() for name in part.ids)

    @property
    def tokens(self) -> int:
        """Real tokens in the bundle."""
        return sum(part.tokens for part in self.parts.values())

    def __getitem__(self, name: str) -> Batch:
        return self.parts[name]


def encode_all(
    lm: LM, examples: Sequence[Example], template: Template = "native", *, role: str = "training"
) -> list[tuple[str, Encoded]]:
    """Encode once, before training; an answer cut off by the context length is left out.

    Raises:
        BadInput: there are no examples, or none has room for its answer.
    """
    if not examples:
        raise BadInput(f"there are no {role} examples; give the world some, or choose another mix.")
    limit = lm.context_length()
    encoded = [
        (example.id, lm.encode(example.prompt, example.answer, template=template, limit=limit))
        for example in examples
    ]
    kept = [(name, row) for name, row in encoded if len(row.ids) > row.prompt]
    if not kept:
        raise BadInput(
            f"every {role} prompt fills the model's {limit:,} tokens of context; shorten them."
        )
    return kept


def collate(rows: Sequence[tuple[str, Encoded]], pad: int, device: torch.device) -> Batch:
    """Pad rows on the right to the longest of them."""
    width = max(len(row.ids) for _, row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for index, (_, row) in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = torch.tensor(row.ids)
        mask[index, :length] = 1
        labels[index, row.prompt : length] = ids[index, row.prompt : length]
    return Batch(
        ids.to(device),
        mask.to(device),
        labels.to(device),
        tuple(name for name, _ in rows),
        sum(len(row.ids) for _, row in rows),
    )


_PACKED = 1024
"""Longest packed row: its attention is paid for in full, which is cheap only while it is short."""


def pack(rows: Sequence[tuple[str, Encoded]], device: torch.device, dtype: torch.dtype) -> Batch:
    """Rows end to end in one row without padding, each seeing only itself.

    ``input_ids``, ``labels`` and ``positions`` are (1, N), ``attention_mask`` is additive and
    (1, 1, N, N). The mean over supervised tokens is what it is for padded rows; sums over a row
    are not to be had. A prompt of at least one token is needed, as the first token of a row is
    predicted by nothing.
    """
    lengths = torch.tensor([len(row.ids) for _, row in rows])
    owner = torch.repeat_interleave(torch.arange(len(rows)), lengths)
    total = int(lengths.sum())
    seen = (owner[:, None] == owner[None, :]) & torch.ones(total, total, dtype=torch.bool).tril()
    mask = torch.zeros(total, total, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
    labels = [[IGNORED] * row.prompt + list(row.ids[row.prompt :]) for _, row in rows]
    return Batch(
        torch.tensor([token for _, row in rows for token in row.ids])[None].to(device),
        mask[None, None].to(device),
        torch.tensor([label for row in labels for label in row])[None].to(device),
        tuple(name for name, _ in rows),
        total,
        torch.cat([torch.arange(int(length)) for length in lengths])[None].to(device),
    )


def _worth_packing(rows: Sequence[tuple[str, Encoded]]) -> bool:
    """Packing pays where more than a tenth would be padding and the packed row is short."""
    lengths = [len(row.ids) for _, row in rows]
    whole = all(row.prompt > 0 for _, row in rows)
    return whole and sum(lengths) <= min(_PACKED, 0.9 * len(rows) * max(lengths))


def cycle(
    lm: LM,
    examples: Sequence[Example],
    *,
    batch_size: int,
    rng: random.Random,
    template: Template = "native",
    role: str = "training",
    packed: bool = False,
) -> Iterator[Batch]:
    """Batches for ever: shuffled anew each epoch, every example once an epoch.

    With ``packed``, rows of unlike length are packed rather than padded where that pays; only for
    losses that are means over tokens.

    A batch is smaller than ``batch_size`` only where there are fewer examples than that; the end
    of an epoch is joined to the start of the next. Examples are read at once, so that a fault in
    them shows before the first step.

    Raises:
        BadInput: as :func:`encode_all`.
    """
    rows = encode_all(lm, examples, template, role=role)
    filler, device, dtype = lm.tokenizer.pad_token_id, lm.device, lm.model.dtype

    def join(chosen: Sequence[tuple[str, Encoded]]) -> Batch:
        if packed and _worth_packing(chosen):
            return pack(chosen, device, dtype)
        return collate(chosen, filler, device)

    return _shuffled(rows, min(batch_size, len(rows)), rng, join)


def _shuffled(
    rows: list[tuple[str, Encoded]],
    size: int,
    rng: random.Random,
    join: Callable[[Sequence[tuple[str, Encoded]]], Batch],
) -> Iterator[Batch]:
    waiting: list[tuple[str, Encoded]] = []
    while True:
        while len(waiting) < size:
            order = list(rows)
            rng.shuffle(order)
            waiting += order
        yield join(waiting[:size])
        waiting = waiting[size:]


def bundles(**streams: Iterator[Batch]) -> Iterator[Bundle]:
    """Draw from several streams at once, one batch of each a step."""
    while True:
        yield Bundle({name: next(stream) for name, stream in streams.items()})
