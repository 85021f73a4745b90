"""Scoring given answers: log-likelihoods of continuations, each common beginning run once.

Q questions: one token that is asked for after the tokens before it. K members: a model whose batch
is K times as long as what it is asked, the rows of member 0 first, answers for K models at once.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from titer.core.config import vocab_size
from titer.core.lm import LM, Encoded
from titer.measures._tree import Block, plan
from titer.nn.rows import reach
from titer.train.batches import IGNORED, collate
from titer.train.objectives import token_losses

__all__ = ["Score", "answer_scores", "cut", "plain_scores"]


class Score(NamedTuple):
    """An answer's summed log-likelihood in nats, its tokens, and whether every one of them was the
    model's first choice."""

    loglik: float
    tokens: int
    greedy: bool


def cut(head: Sequence[int], tail: Sequence[int], limit: int) -> Encoded:
    """Prompt and answer, cut on the left to ``limit`` tokens."""
    if len(head) + len(tail) <= limit:
        return Encoded((*head, *tail), max(1, len(head)))
    return Encoded(tuple([*head, *tail][-limit:]), max(1, min(len(head), limit - len(tail))))


@torch.no_grad()
def answer_scores(lm: LM, rows: Sequence[Encoded], *, copies: int = 1) -> list[list[Score]]:
    """Score the answers of ``rows``, in their order: one list for each of K = ``copies`` members.

    What rows begin with in common is run once, logits are taken only where a token is asked for,
    and the first token of a row is never asked for, as nothing predicts it. Scores are those of
    each row alone, up to rounding. A model that cannot be asked in this way (recurrent ones, those
    with position biases of their own) is asked for each row in full.
    """
    lm.model.eval()
    longest = max((len(row.ids) for row in rows), default=0)
    if longest > reach(lm.model.config) or not _takes_trees(lm, copies):
        return plain_scores(lm, rows, copies=copies)
    found = _tree_scores(lm, rows, copies)
    # One broken token reaches the others of its row through masked attention, as 0 times NaN is.
    broken = [
        index
        for index in range(len(rows))
        if not all(math.isfinite(member[index].loglik) for member in found)
    ]
    alone = plain_scores(lm, [rows[index] for index in broken], copies=copies)
    for member, again in zip(found, alone, strict=True):
        for index, score in zip(broken, again, strict=True):
            member[index] = score
    return found


# -- by trees ---------------------------------------------------------------------------------


_TOKENS = {"cpu": 768}
"""Tokens a pass by device: on a CPU what its caches hold, elsewhere what keeps it busy."""

_LOGITS = 2**28
"""Logits a pass at most: a gigabyte in single precision."""


def _tokens(lm: LM, copies: int) -> int:
    words = vocab_size(lm.model.config)
    return max(1, min(_TOKENS.get(lm.device.type, 8192), _LOGITS // words) // copies)


def _tree_scores(
    lm: LM, rows: Sequence[Encoded], copies: int, **planning: int
) -> list[list[Score]]:
    laid = plan(tuple(rows), _tokens(lm, copies), **planning)
    header: Any = None
    if laid.header:
        ids = torch.tensor([laid.header]).repeat(copies, 1).to(lm.device)
        header = lm.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    sums = torch.zeros(copies, len(rows), dtype=torch.float64)
    missed = torch.zeros(copies, len(rows), dtype=torch.long)
    for block in laid.blocks:
        logits = _logits(lm, block, header, len(laid.header), copies)
        logliks, hits = _answers(logits, block)
        sums.index_add_(1, block.owners, logliks.double().cpu())
        missed.index_add_(1, block.owners, (~hits).long().cpu())
    counts = [max(0, len(row.ids) - max(1, row.prompt)) for row in rows]
    return [
        [Score(*parts) for parts in zip(total, counts, right, strict=True)]
        for total, right in zip(sums.tolist(), (missed == 0).tolist(), strict=True)
    ]


def _logits(lm: LM, block: Block, header: Any, width: int, copies: int) -> Tensor:
    """Logits of the block's scored tokens, (K, S, V)."""
    model, rows = lm.model, len(block.ids)
    ids = block.ids.repeat(copies, 1).to(lm.device)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": header is not None}
    if block.straight:
        inputs["attention_mask"] = torch.ones_like(ids)
    else:
        like = torch.empty(0, dtype=model.dtype, device=lm.device)
        inputs["attention_mask"] = block.mask(width, like).repeat(copies, 1, 1, 1)
        inputs["position_ids"] = block.depths.repeat(copies, 1).to(lm.device)
    if header is not None:
        inputs["past_key_values"] = copy.deepcopy(header)
        inputs["past_key_values"].batch_repeat_interleave(rows)
    scored = block.scored.repeat(copies, 1).to(lm.device)
    logits = model(**inputs, logits_to_keep=scored).logits
    if logits.dim() != 2 or len(logits) != int(block.scored.sum()) * copies:
        raise ValueError(f"logits are {tuple(logits.shape)}; those of scored tokens were asked for")
    return logits.unflatten(0, (copies, -1))


def _answers(logits: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """The log-likelihood of each token asked for, and whether it was the first choice: (K, Q)."""
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    places, targets = block.places.to(logits.device), block.targets.to(logits.device)
    chosen = logits[:, places, targets]
    # argmax takes as long as the whole softmax, so only what equals the maximum is asked for it.
    hits = chosen >= logits.amax(-1)[:, places]
    member, question = hits.nonzero(as_tuple=True)
    first = logits[member, places[question]].argmax(-1)
    hits[member, question] = first == targets[question]
    return chosen - logits.logsumexp(-1)[:, places], hits


# -- which models can -------------------------------------------------------------------------


_ABLE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_SAMPLE = ((1, 4, 2, 7, 3), (1, 4, 2, 7, 5, 6), (1, 4, 5, 3, 2), (1, 4, 5), (1, 4, 5, 3, 2, 6, 8))


def _takes_trees(lm: LM, copies: int) -> bool:
    """Whether a small tree gives the scores of its sequences alone; tried once a model."""
    if lm.model not in _ABLE:
        able = _tried(lm, copies)
        if able is None:
            return False
        _ABLE[lm.model] = able
    return _ABLE[lm.model]


def _tried(lm: LM, copies: int) -> bool | None:
    """The trial; None where a broken model lets nothing be said."""
    words = vocab_size(lm.model.config)
    rows = [Encoded(tuple(token % words for token in ids), 2) for ids in _SAMPLE]
    plain = _sums(plain_scores(lm, rows, copies=copies))
    if not bool(plain.isfinite().all()):
        return None
    try:
        trees = _sums(_tree_scores(lm, rows, copies, header=1))
    except Exception as error:
        logging.getLogger(__name__).info("%s is asked row by row: %s", lm.name, error)
        return False
    room = torch.finfo(lm.model.dtype).eps ** 0.5
    if torch.allclose(trees, plain, rtol=room, atol=room):
        return True
    logging.getLogger(__name__).info("%s is asked row by row: trees score otherwise", lm.name)
    return False


def _sums(members: Sequence[Sequence[Score]]) -> Tensor:
    return torch.tensor([[score.loglik for score in member] for member in members])


# -- row by row -------------------------------------------------------------------------------


@torch.no_grad()
def plain_scores(
    lm: LM, rows: Sequence[Encoded], *, copies: int = 1, tokens: int = 4096
) -> list[list[Score]]:
    """What :func:`answer_scores` returns, each row run in full beside others of like length."""
    found: list[list[Score]] = [[Score(0.0, 0, True)] * len(rows) for _ in range(copies)]
    order = [index for index, row in enumerate(rows) if len(row.ids) > max(1, row.prompt)]
    order.sort(key=lambda index: len(rows[index].ids), reverse=True)
    while order:
        size = max(1, tokens // (copies * len(rows[order[0]].ids)))
        chosen, order = order[:size], order[size:]
        batch = collate(
            [("", rows[index]) for _ in range(copies) for index in chosen],
            lm.tokenizer.pad_token_id,
            lm.device,
        )
        logits = lm.model(**batch.inputs(), use_cache=False).logits
        sums = token_losses(logits, batch.labels).double().sum(-1).tolist()
        labels = batch.labels[:, 1:]
        counts = (labels != IGNORED).sum(-1).tolist()
        right = ((logits[:, :-1].argmax(-1) == labels) | (labels == IGNORED)).all(-1).tolist()
        scores = map(Score, [-total for total in sums], counts, right)
        for member in found:
            for index in chosen:
                member[index] = next(scores)
    return found
