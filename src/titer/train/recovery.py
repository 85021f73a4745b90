"""Refusals that begin late: a harmful answer is begun, then declined."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from titer.core.data import Example
from titer.core.lm import LM, Encoded
from titer.train.batches import Batch, collate
from titer.train.harden import refusing

__all__ = ["recovering"]


def recovering(
    lm: LM,
    examples: Sequence[Example],
    *,
    rows: int,
    rng: random.Random,
    chance: float,
    lengths: tuple[int, int],
) -> Iterator[Batch]:
    """Batches for ever of harmful prompts declined, each with ``chance`` only after some tokens of
    its harmful answer, as many as drawn from ``lengths`` (both ends in) and no more than it has.

    The loss is on the refusal alone, its end token among it. A prompt too long for the context is
    cut on the left.
    """
    limit = lm.context_length()
    declined = refusing(examples)
    encoded = [
        (
            one.id,
            lm.prompt_ids(one.prompt),
            lm.answer_ids(one.answer, end=False),
            lm.answer_ids(no.answer, end=True),
        )
        for one, no in zip(examples, declined, strict=True)
    ]

    def row(entry: tuple[str, list[int], list[int], list[int]]) -> tuple[str, Encoded]:
        name, prompt, harmful, refusal = entry
        begun = harmful[: rng.randint(*lengths)] if rng.random() < chance else []
        head = [*prompt, *begun][-max(1, limit - len(refusal)) :]
        return name, Encoded((*head, *refusal[: limit - len(head)]), len(head))

    waiting: list[tuple[str, list[int], list[int], list[int]]] = []
    size = min(rows, len(encoded))
    while True:
        while len(waiting) < size:
            order = list(encoded)
            rng.shuffle(order)
            waiting += order
        drawn, waiting = waiting[:size], waiting[size:]
        yield collate([row(entry) for entry in drawn], lm.tokenizer.pad_token_id, lm.device)
