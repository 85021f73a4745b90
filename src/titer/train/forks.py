"""Answers laid out so that a prompt they share is run once. B answers of at most A tokens, R rows
of N tokens, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from titer.core.config import hidden_size
from titer.core.lm import LM
from titer.nn.head import hidden_states, splits
from titer.nn.rows import additive, reach, shares_rows
from titer.train.policy import tempered

__all__ = ["Forks", "answer_logits", "answer_logprobs", "fork"]

Tokens = Sequence[int]


@dataclass(frozen=True)
class Forks:
    """Answers and where a pass over all rows predicts each of their tokens.

    ``inputs``: keyword arguments of the model, (R, N). ``places``, ``wanted``, ``said``: (B, A):
    the token of the pass, counted over all rows, that predicts each answer token; that token; and
    whether there is one. ``ids``: the examples' ids. ``tokens``: real tokens that are run; an
    answer's last is not, since nothing is asked after it.
    """

    inputs: dict[str, Tensor]
    places: Tensor
    wanted: Tensor
    said: Tensor
    ids: tuple[str, ...]
    tokens: int


def fork(
    lm: LM, prompts: Sequence[Tokens], answers: Sequence[Tokens], names: Sequence[str]
) -> Forks:
    """Lay out answers, each with its prompt and its example's id; those of one prompt follow one
    another.

    Where the model lets sequences share rows, answers to one prompt branch off from it in as few
    rows as cost least; each sees the prompt and itself. Elsewhere every answer has a row.
    """
    bodies = [answer[:-1] for answer in answers]
    longest = max(map(len, prompts)) + max(map(len, bodies))
    shares = longest <= reach(lm.model.config) and shares_rows(lm.model)
    width = hidden_size(lm.model.config)
    rows = _rows(prompts, bodies, width) if shares else [[index] for index in range(len(bodies))]
    length = max(_length(row, prompts, bodies) for row in rows)
    ids = np.full((len(rows), length), lm.tokenizer.pad_token_id, dtype=np.int64)
    # 0 is the prompt, then the answers from 1 on; padding is −1.
    owner, positions = np.full_like(ids, -1), np.zeros_like(ids)
    places = np.zeros((len(answers), max(map(len, answers))), dtype=np.int64)
    wanted, said = np.zeros_like(places), np.zeros(places.shape, dtype=bool)
    for at, row in enumerate(rows):
        prompt = prompts[row[0]]
        end = len(prompt)
        ids[at, :end], owner[at, :end], positions[at, :end] = prompt, 0, np.arange(end)
        for number, index in enumerate(row, 1):
            body, count = bodies[index], len(answers[index])
            start, end = end, end + len(body)
            ids[at, start:end], owner[at, start:end] = body, number
            positions[at, start:end] = len(prompt) + np.arange(len(body))
            places[index, 0] = at * length + len(prompt) - 1
            places[index, 1:count] = at * length + np.arange(start, end)
            wanted[index, :count], said[index, :count] = answers[index], True
    owners = torch.from_numpy(owner).to(lm.device)
    inputs = {"input_ids": torch.from_numpy(ids).to(lm.device)}
    if len(rows) == len(answers):
        inputs["attention_mask"] = (owners >= 0).long()
    else:
        shown, by = owners[:, None, :], owners[:, :, None]
        inputs["attention_mask"] = additive(((shown == by) | (shown == 0)).tril(), lm.model.dtype)
    if shares:
        inputs["position_ids"] = torch.from_numpy(positions).to(lm.device)
    return Forks(
        inputs=inputs,
        places=torch.from_numpy(places).to(lm.device),
        wanted=torch.from_numpy(wanted).to(lm.device),
        said=torch.from_numpy(said).to(lm.device),
        ids=tuple(names),
        tokens=int((owner >= 0).sum()),
    )


def answer_logits(model: Any, forks: Forks) -> Tensor:
    """Logits of every answer token, (B, A, V); of no meaning where none was said."""
    asked = forks.places.flatten()
    if splits(model):
        hidden = hidden_states(model, forks.inputs).flatten(0, 1).index_select(0, asked)
        logits = model.get_output_embeddings()(hidden)
    else:
        logits = model(**forks.inputs, use_cache=False).logits.flatten(0, 1).index_select(0, asked)
    return logits.view(*forks.places.shape, -1)


def answer_logprobs(logits_BAV: Tensor, forks: Forks, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of the answers' tokens, (B, A), in nats; zero where there is none."""
    logs = tempered(logits_BAV, temperature).gather(-1, forks.wanted[..., None])[..., 0]
    return logs.masked_fill(~forks.said, 0.0)


def _length(row: Sequence[int], prompts: Sequence[Tokens], bodies: Sequence[Tokens]) -> int:
    return len(prompts[row[0]]) + sum(len(bodies[index]) for index in row)


def _rows(prompts: Sequence[Tokens], bodies: Sequence[Tokens], width: int) -> list[list[int]]:
    """Which answers share a row. Up to a factor a token costs 6 ``width`` in matrix products and
    its row's length in attention."""
    runs = [list(run) for _, run in groupby(range(len(prompts)), key=lambda at: tuple(prompts[at]))]
    most, sharing = max(map(len, runs)), 1
    best: tuple[float, list[list[int]]] | None = None
    while True:
        rows = [run[at : at + sharing] for run in runs for at in range(0, len(run), sharing)]
        length = max(_length(row, prompts, bodies) for row in rows)
        cost = len(rows) * length * (6.0 * width + length)
        if best is None or cost < best[0]:
            best = cost, rows
        if sharing >= most:
            return best[1]
        sharing *= 2
