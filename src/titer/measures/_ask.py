"""Scoring given answers: log-likelihoods of continuations, bucketed by length."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from titer.core.lm import LM, Encoded
from titer.train.batches import IGNORED, collate
from titer.train.objectives import token_losses

__all__ = ["continuation_scores", "next_token_scores"]


@torch.no_grad()
def continuation_scores(
    lm: LM, rows: Sequence[Encoded], batch_size: int = 128
) -> list[tuple[float, int, bool]]:
    """For each row: the summed log-likelihood of its answer in nats, the answer's tokens, and
    whether every one of them was the model's first choice.

    Rows are batched by length, so that little is padding; the order of the result is that of
    ``rows``.
    """
    lm.model.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    found: list[tuple[float, int, bool]] = [(0.0, 0, False)] * len(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collate(
            [(str(index), rows[index]) for index in chosen], lm.tokenizer.pad_token_id, lm.device
        )
        logits = lm.model(**batch.inputs(), use_cache=False).logits
        losses = token_losses(logits, batch.labels)
        labels = batch.labels[:, 1:]
        real = labels != IGNORED
        hits = (logits[:, :-1].argmax(-1) == labels) | ~real
        for place, index in enumerate(chosen):
            found[index] = (
                -float(losses[place].sum()),
                int(real[place].sum()),
                bool(hits[place].all()),
            )
    return found


@torch.no_grad()
def next_token_scores(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]],
    batch_size: int = 128,
) -> list[list[float]]:
    """Log-probability of each candidate token right after its prompt: one forward a prompt."""
    lm.model.eval()
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: list[list[float]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = [
            (str(index), Encoded(tuple(prompts[index]), len(prompts[index]))) for index in chosen
        ]
        batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
        logits = lm.model(**batch.inputs(), use_cache=False).logits
        for place, index in enumerate(chosen):
            last = torch.log_softmax(logits[place, len(prompts[index]) - 1].float(), -1)
            found[index] = [float(last[token]) for token in candidates[index]]
    return found
