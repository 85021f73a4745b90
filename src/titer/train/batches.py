"""From examples to padded batches. B rows, T tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from titer.core.config import hidden_size
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM, Encoded, Template
from titer.nn.rows import additive, reach, shares_rows
from titer.train.packing import fill, layout

__all__ = [
    "IGNORED",
    "Batch",
    "Bundle",
    "Drawn",
    "bundles",
    "collate",
    "cycle",
    "draw",
    "encode_all",
    "pack",
    "unpadded",
]

IGNORED = -100
"""The label of a token that carries no loss."""


@dataclass(frozen=True)
class Batch:
    """Right-padded token rows.

    ``input_ids``, ``attention_mask``, ``labels``: int64 (B, T); labels are not shifted and hold
    :data:`IGNORED` at prompts and padding. ``ids``: the examples' ids. ``tokens``: real tokens.
    ``positions`` is set by :func:`pack`, 0 at padding.
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
    """Encode once, before training. What is longer than the context is cut as :meth:`LM.encode`
    cuts it, and none is left out.

    Raises:
        BadInput: there are no examples.
    """
    if not examples:
        raise BadInput(f"there are no {role} examples; give the world some, or choose another mix.")
    limit = lm.context_length()
    return [
        (example.id, lm.encode(example.prompt, example.answer, template=template, limit=limit))
        for example in examples
    ]


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


@dataclass(frozen=True)
class Drawn:
    """Examples drawn for one step, before they become tensors; ``rows`` pairs id and tokens."""

    rows: tuple[tuple[str, Encoded], ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The examples' ids."""
        return tuple(name for name, _ in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens in all, none of them padding."""
        return sum(len(row.ids) for _, row in self.rows)


def unpadded(batch: Batch) -> Drawn:
    """The rows of a padded batch as they were before :func:`collate`."""
    rows: list[tuple[str, Encoded]] = []
    for name, ids, mask, labels in zip(
        batch.ids, batch.input_ids, batch.attention_mask, batch.labels, strict=True
    ):
        prompt = int((labels != IGNORED).to(torch.int8).argmax())
        rows.append((name, Encoded(tuple(ids[: int(mask.sum())].tolist()), prompt)))
    return Drawn(tuple(rows))


def pack(lm: LM, groups: Sequence[Drawn]) -> Batch:
    """One batch of G groups (the members of a cohort, or one), group after group, R rows each.

    Sequences share rows of C tokens and see only themselves: ``input_ids``, ``labels`` and
    ``positions`` are (G·R, C), ``attention_mask`` is additive and (G·R, 1, C, C). Means over a
    group's supervised tokens are what they are for padded rows; sums over a sequence are not to be
    had. Where one sequence a row costs least, or the model can have no more, the batch is an
    ordinary padded one.
    """
    pad, device = lm.tokenizer.pad_token_id, lm.device
    sequences = [[row for _, row in group.rows] for group in groups]
    lengths = [[len(row.ids) for row in group] for group in sequences]
    length, bins = layout(lengths, hidden_size(lm.model.config))
    most = max(map(len, lengths))
    alone = {len(shared) for shared in bins} == {len(group) for group in lengths} == {most}
    longest = max(max(group) for group in lengths)
    shares = longest <= reach(lm.model.config) and shares_rows(lm.model, len(groups))
    if alone or not shares:
        plain = _row_a_sequence(groups, most, pad, device)
        places = torch.arange(plain.input_ids.shape[1], device=device)
        # A model that shares no rows may take no positions; the rows' own are these anyway.
        return replace(plain, positions=places * plain.attention_mask) if shares else plain
    ids, labels, positions, owner = (
        torch.from_numpy(array).to(device) for array in fill(sequences, length, bins, pad, IGNORED)
    )
    seen = (owner[:, :, None] == owner[:, None, :]).tril_()
    return Batch(
        ids,
        additive(seen, lm.model.dtype),
        labels,
        tuple(name for group in groups for name in group.ids),
        sum(group.tokens for group in groups),
        positions,
    )


def _row_a_sequence(groups: Sequence[Drawn], rows: int, pad: int, device: torch.device) -> Batch:
    """So many rows a group; a smaller group has rows of one token that nothing is asked about."""
    spare = ("", Encoded((pad,), 1))
    padded = [row for one in groups for row in (*one.rows, *[spare] * (rows - len(one.rows)))]
    return replace(
        collate(padded, pad, device),
        ids=tuple(name for one in groups for name in one.ids),
        tokens=sum(one.tokens for one in groups),
    )


def draw(
    lm: LM,
    examples: Sequence[Example],
    *,
    batch_size: int,
    rng: random.Random,
    template: Template = "native",
    role: str = "training",
) -> Iterator[Drawn]:
    """Examples for ever: shuffled anew each epoch, every one once an epoch.

    There are fewer than ``batch_size`` only where there are fewer examples than that; the end of an
    epoch is joined to the start of the next. Examples are read at once, so that a fault in them
    shows before the first step.

    Raises:
        BadInput: as :func:`encode_all`.
    """
    rows = encode_all(lm, examples, template, role=role)
    return _shuffled(rows, min(batch_size, len(rows)), rng)


def _shuffled(rows: list[tuple[str, Encoded]], size: int, rng: random.Random) -> Iterator[Drawn]:
    waiting: list[tuple[str, Encoded]] = []
    while True:
        while len(waiting) < size:
            order = list(rows)
            rng.shuffle(order)
            waiting += order
        yield Drawn(tuple(waiting[:size]))
        waiting = waiting[size:]


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
    """Batches for ever, of what :func:`draw` draws.

    With ``packed``, rows of unlike length share rows where that pays; only for losses that are
    means over tokens.
    """
    drawn = draw(lm, examples, batch_size=batch_size, rng=rng, template=template, role=role)
    if not packed:
        return (collate(step.rows, lm.tokenizer.pad_token_id, lm.device) for step in drawn)
    return (pack(lm, [step]) for step in drawn)


def bundles(**streams: Iterator[Batch | None]) -> Iterator[Bundle]:
    """Draw from several streams at once, one batch of each a step; None is no batch."""
    while True:
        drawn = {name: next(stream) for name, stream in streams.items()}
        yield Bundle({name: batch for name, batch in drawn.items() if batch is not None})
