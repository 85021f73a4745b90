"""From examples to padded batches. B rows, T tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM, Encoded, Template

__all__ = ["IGNORED", "Batch", "Bundle", "bundles", "collate", "cycle", "encode_all"]

IGNORED = -100
"""The label of a token that carries no loss."""


@dataclass(frozen=True)
class Batch:
    """Right-padded token rows.

    ``input_ids``, ``attention_mask``, ``labels``: int64 (B, T); labels are not shifted and hold
    :data:`IGNORED` at prompts and padding. ``ids``: the examples' ids. ``tokens``: real tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    tokens: int

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a model's forward pass."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


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


def cycle(
    lm: LM,
    examples: Sequence[Example],
    *,
    batch_size: int,
    rng: random.Random,
    template: Template = "native",
    role: str = "training",
) -> Iterator[Batch]:
    """Batches for ever: shuffled anew each epoch, every example once an epoch.

    A batch is smaller than ``batch_size`` only where there are fewer examples than that; the end
    of an epoch is joined to the start of the next. Examples are read at once, so that a fault in
    them shows before the first step.

    Raises:
        BadInput: as :func:`encode_all`.
    """
    rows = encode_all(lm, examples, template, role=role)
    return _shuffled(rows, min(batch_size, len(rows)), rng, lm.tokenizer.pad_token_id, lm.device)


def _shuffled(
    rows: list[tuple[str, Encoded]], size: int, rng: random.Random, pad: int, device: torch.device
) -> Iterator[Batch]:
    waiting: list[tuple[str, Encoded]] = []
    while True:
        while len(waiting) < size:
            order = list(rows)
            rng.shuffle(order)
            waiting += order
        yield collate(waiting[:size], pad, device)
        waiting = waiting[size:]


def bundles(**streams: Iterator[Batch]) -> Iterator[Bundle]:
    """Draw from several streams at once, one batch of each a step."""
    while True:
        yield Bundle({name: next(stream) for name, stream in streams.items()})
