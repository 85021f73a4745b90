"""Answers sampled in batches, with their log-probabilities under the policy that gave them.

B rows, P tokens of prompt, A tokens of answer, V vocabulary. Written out rather than left to
``generate`` of transformers: of a small model that spends most of its time outside the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from titer.core.lm import LM
from titer.train.forks import Forks, fork
from titer.train.policy import tempered

__all__ = ["Rollouts", "room", "sample"]


@dataclass(frozen=True)
class Rollouts:
    """Sampled answers, a row each; rows of one prompt follow one another.

    ``prompts``: the prompt of each row. ``answers``: its sampled tokens, the ending token among
    them where there is one. ``logprobs``: of those tokens under the sampling policy, in nats.
    ``ended``: whether the model ended the answer itself. ``tokens``: tokens that went through the
    model to sample, each prompt once however many answers it has.
    """

    prompts: tuple[tuple[int, ...], ...]
    answers: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    ended: tuple[bool, ...]
    tokens: int

    def texts(self, lm: LM) -> list[str]:
        """The answers decoded as :meth:`LM.generate` does."""
        found = lm.tokenizer.batch_decode(
            [list(answer) for answer in self.answers], skip_special_tokens=True
        )
        return [text.strip() for text in found]

    def forks(self, names: Sequence[str], lm: LM) -> Forks:
        """What to train on, each answer with the id of its example."""
        return fork(lm, self.prompts, self.answers, names)

    def behaviour(self, forks: Forks) -> Tensor:
        """``logprobs`` in the places of ``forks``, (B, A), zero elsewhere."""
        found = torch.zeros(forks.said.shape)
        found[forks.said.cpu()] = torch.tensor([value for row in self.logprobs for value in row])
        return found.to(forks.said.device)


def room(lm: LM, max_new_tokens: int) -> tuple[int, int]:
    """Tokens of answer and of prompt that fit: answers take at most half of the context."""
    longest = lm.context_length()
    new = min(max_new_tokens, max(1, longest // 2))
    return new, longest - new


@torch.no_grad()
def sample(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    *,
    generator: torch.Generator,
    group: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
) -> Rollouts:
    """``group`` answers to each prompt, sampled from ``softmax(logits / temperature)``.

    At temperature 0 answers are greedy, as those of :meth:`LM.generate`, and log-probabilities are
    those of the policy at temperature 1. ``generator``, on the CPU, decides everything: each row
    has uniform draws of its own, one a token, so that no answer depends on when another ends. A
    prompt that leaves no room for an answer is cut on the left. The model is put in evaluation mode
    for the time.
    """
    new, longest = room(lm, max_new_tokens)
    heads = [tuple(prompt[-longest:]) for prompt in prompts]
    draws_BA = torch.rand(len(heads) * group, new, generator=generator, dtype=torch.float64)
    training = lm.model.training
    lm.model.eval()
    try:
        answers_BA, logprobs_BA = _decode(lm, heads, group, draws_BA, temperature)
    finally:
        lm.model.train(training)
    return _gather(heads, group, answers_BA, logprobs_BA, set(lm._ends()))  # noqa: SLF001


def _decode(
    lm: LM, heads: Sequence[tuple[int, ...]], group: int, draws_BA: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Tokens and log-probabilities (B, A), both on the CPU; of no meaning after an ending token.

    Rows that have ended leave the batch once they are half of it.
    """
    device, pad = lm.device, lm.tokenizer.pad_token_id
    ends = torch.tensor(lm._ends(), device=device)  # noqa: SLF001
    draws_BA = draws_BA.to(device)
    reader: _Reader = (
        _Cached(lm, heads, group) if _keeps_rows(lm, heads[0]) else _Anew(lm, heads, group)
    )
    logits = reader.logits
    tokens = torch.full(draws_BA.shape, pad, device=device)
    logprobs = torch.zeros(draws_BA.shape, device=device)
    rows = torch.arange(len(draws_BA), device=device)
    going = torch.ones(len(draws_BA), dtype=torch.bool, device=device)
    for place in range(draws_BA.shape[1]):
        policy = tempered(logits, temperature or 1.0)
        token = _draw(policy, draws_BA[rows, place]) if temperature else logits.argmax(-1)
        tokens[rows, place] = token
        logprobs[rows, place] = policy.gather(-1, token[:, None])[:, 0]
        going &= ~torch.isin(token, ends)
        left = int(going.sum())
        if left == 0 or place + 1 == draws_BA.shape[1]:
            break
        if left <= len(rows) // 2:
            kept = going.nonzero()[:, 0]
            reader.keep(kept)
            rows, token, going = (values[kept] for values in (rows, token, going))
        logits = reader.read(token)
    return tokens.cpu(), logprobs.cpu()


class _Reader(Protocol):
    """Reads tokens row by row. ``logits`` (B, V) are those after the prompts."""

    logits: Tensor

    def keep(self, rows: Tensor) -> None: ...

    def read(self, token_B: Tensor) -> Tensor: ...


class _Cached:
    """Reads each token once: prompts padded on the left, and a cache."""

    def __init__(self, lm: LM, heads: Sequence[tuple[int, ...]], group: int) -> None:
        self.model, width, pad = lm.model, max(map(len, heads)), lm.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(head)) + list(head) for head in heads])
        mask = torch.tensor([[0] * (width - len(head)) + [1] * len(head) for head in heads])
        mask = mask.to(lm.device)
        out = _forward(self.model, ids.to(lm.device), mask, None)
        self.cache = out.past_key_values
        if group > 1:
            self.cache.batch_repeat_interleave(group)
        self.mask, self.logits = (
            values.repeat_interleave(group, 0) for values in (mask, out.logits[:, -1])
        )

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]

    def read(self, token_B: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        return _forward(self.model, token_B[:, None], self.mask, self.cache).logits[:, -1]


class _Anew:
    """Reads the whole text for each token, padded on the right, where what comes before knows
    nothing of it: for models whose state cannot be copied and chosen row by row."""

    def __init__(self, lm: LM, heads: Sequence[tuple[int, ...]], group: int) -> None:
        self.model, self.pad, self.device = lm.model, lm.tokenizer.pad_token_id, lm.device
        self.texts = [list(head) for head in heads]
        self.logits = self._last().repeat_interleave(group, 0)
        self.texts = [list(text) for text in self.texts for _ in range(group)]

    def keep(self, rows: Tensor) -> None:
        self.texts = [self.texts[row] for row in rows.tolist()]

    def read(self, token_B: Tensor) -> Tensor:
        for text, token in zip(self.texts, token_B.tolist(), strict=True):
            text.append(token)
        return self._last()

    def _last(self) -> Tensor:
        width = max(map(len, self.texts))
        ids = torch.tensor([text + [self.pad] * (width - len(text)) for text in self.texts])
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in self.texts])
        ends = torch.tensor([len(text) - 1 for text in self.texts], device=self.device)
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        found: Tensor = self.model(**inputs, use_cache=False).logits
        return found[torch.arange(len(ends), device=self.device), ends]


_ROWS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _keeps_rows(lm: LM, head: Sequence[int]) -> bool:
    """Whether the model's cache can be repeated and cut row by row; recurrent ones' cannot."""
    if lm.model not in _ROWS:
        ids = torch.tensor([list(head)], device=lm.device)
        cache: Any = getattr(
            _forward(lm.model, ids, torch.ones_like(ids), None), "past_key_values", None
        )
        layers = getattr(cache, "layers", None) or [cache]
        wanted = ("batch_repeat_interleave", "batch_select_indices")
        _ROWS[lm.model] = all(hasattr(layer, name) for layer in layers for name in wanted)
    return _ROWS[lm.model]


def _forward(model: Any, ids: Tensor, mask: Tensor, cache: Any) -> Any:
    """One forward pass over new tokens; places, where the model takes them, count real tokens."""
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "position_ids" in inspect.signature(plain.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    return model(**inputs, past_key_values=cache)


def _draw(policy_BV: Tensor, draws_B: Tensor) -> Tensor:
    """Invert the distribution function at a uniform draw; in double precision, since the sum over
    a large vocabulary is off by more than a rare token's share in single."""
    steps = policy_BV.double().exp().cumsum(-1)
    found = torch.searchsorted(steps, (draws_B * steps[:, -1])[:, None], right=True)[:, 0]
    return found.clamp(max=steps.shape[-1] - 1)


def _gather(
    heads: Sequence[tuple[int, ...]],
    group: int,
    answers_BA: Tensor,
    logprobs_BA: Tensor,
    ends: set[int],
) -> Rollouts:
    answers: list[tuple[int, ...]] = []
    logprobs: list[tuple[float, ...]] = []
    ended: list[bool] = []
    for row, values in zip(answers_BA.tolist(), logprobs_BA.tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        answers.append(tuple(row[:length]))
        logprobs.append(tuple(values[:length]))
        ended.append(row[length - 1] in ends)
    return Rollouts(
        prompts=tuple(head for head in heads for _ in range(group)),
        answers=tuple(answers),
        logprobs=tuple(logprobs),
        ended=tuple(ended),
        tokens=sum(map(len, heads)) + sum(map(len, answers)),
    )
