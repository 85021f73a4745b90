"""What attacks without training share: what they read, what it costs, and how they choose.

Such an attack proposes edits and keeps one. It chooses by its own data alone: harmful and benign
examples that were not used to work the edit out. N examples, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from titer.core.data import Data, Example
from titer.method import LM, BadInput, Encoded, Run
from titer.nn.directions import positions
from titer.train.batches import Batch, collate, encode_all
from titer.train.objectives import kl_to, row_losses

__all__ = [
    "KL_NOT_MET",
    "Panel",
    "Score",
    "affordable",
    "as_it_speaks",
    "better",
    "choose",
    "means",
    "screened",
    "search",
    "split",
]

KL_NOT_MET = "kl-bound-not-met"
"""The flag of a run in which every edit changed benign answers by more than was asked for."""

C = TypeVar("C")
Row = tuple[str, Encoded]


# -- what may be spent ----------------------------------------------------------------------------


def pay(
    run: Run, *, tokens: int, ids: Iterable[str] = (), flops: float = 0.0, steps: int = 0
) -> bool:
    """Charge work that is about to be done, if the budget holds it.

    Work without an optimiser step is allowed where no step is.
    """
    names = set(ids)
    asked = run if steps else replace(run, budget=replace(run.budget, steps=None))
    if not asked.affords(tokens=tokens, examples=names, flops=flops):
        return False
    run.charge(steps=steps, tokens=tokens, examples=names, flops=flops)
    return True


def affordable(
    lm: LM, run: Run, rows: Sequence[Row], *, per_token: float, batch_size: int = 32
) -> Iterator[Batch]:
    """Batches of rows of like length, each charged before it is handed out, while there is budget.

    ``per_token`` counts operations a weight and token: 2 forward, 6 forward and backward.
    """
    size = lm.parameters_in_matmuls()
    order = sorted(rows, key=lambda row: len(row[1].ids))
    for start in range(0, len(order), batch_size):
        batch = collate(order[start : start + batch_size], lm.tokenizer.pad_token_id, lm.device)
        if not pay(run, tokens=batch.tokens, ids=batch.ids, flops=per_token * size * batch.tokens):
            return
        yield batch


# -- what is read ---------------------------------------------------------------------------------


def split(run: Run, count: int, held: int) -> tuple[Data, Data]:
    """Up to ``count`` harmful and as many benign examples to work an edit out from, and up to
    ``held`` of each, never more than a third, to choose it by.

    Benign ones are drawn evenly from every benign split there is.

    Raises:
        BadInput: there are no harmful or no benign examples.
    """
    pools = [pool for pool in (run.data.retain, run.data.related, run.data.unrelated) if pool]
    if not (run.data.harmful and pools):
        raise BadInput("an edit is worked out from harmful and from benign examples; give both.")
    share = -(-(count + held) // len(pools))
    rng = run.rng("examples")
    drawn = [rng.sample(pool, min(share, len(pool))) for pool in pools]
    mixed = [example for group in drawn for example in group]
    rng.shuffle(mixed)
    harmful = rng.sample(run.data.harmful, min(count + held, len(run.data.harmful)))

    def cut(examples: list[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        kept = min(held, len(examples) // 3)
        used = tuple(examples[kept : kept + count])
        return used, tuple(examples[:kept]) or used

    (bad, bad_held), (good, good_held) = cut(harmful), cut(mixed)
    return Data(harmful=bad, retain=good), Data(harmful=bad_held, retain=good_held)


def means(lm: LM, run: Run, examples: Sequence[Example], last: int) -> Tensor | None:
    """Mean residual stream at the ends of prompts, see :func:`~titer.nn.directions.positions`.

    Returns (L, P, D), over as many prompts as the budget affords; None if it affords none.
    """
    limit = lm.context_length()
    heads = [(example.id, tuple(lm.prompt_ids(example.prompt)[-limit:])) for example in examples]
    rows = [(name, Encoded(ids, len(ids))) for name, ids in heads if ids]
    total: Tensor | None = None
    count = 0
    for batch in affordable(lm, run, rows, per_token=2.0):
        found = positions(lm.model, batch.inputs(), last).sum(0)
        total = found if total is None else total + found
        count += len(batch.ids)
    return None if total is None else total / count


def as_it_speaks(lm: LM, run: Run, examples: Sequence[Example], longest: int = 16) -> list[Row]:
    """The prompts with what the model itself answers now: refusals, if it refuses.

    Greedy, up to ``longest`` tokens; charged as if every answer were that long. Empty if the budget
    does not hold it.
    """
    prompts = [example.prompt for example in examples]
    tokens = sum(len(lm.prompt_ids(prompt)) + longest for prompt in prompts)
    flops = 2.0 * lm.parameters_in_matmuls() * tokens
    if not pay(run, tokens=tokens, ids=[example.id for example in examples], flops=flops):
        return []
    said = lm.generate(prompts, max_new_tokens=longest)
    spoken = [replace(one, answer=text) for one, text in zip(examples, said, strict=True)]
    return encode_all(lm, spoken, role="harmful")


# -- how an edit is judged ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """``harm``: how unlikely harmful answers are, in nats, lower is worse for the defender.
    ``kl``: divergence from the model as it was on benign answers, in nats a token."""

    harm: float
    kl: float


def rank(score: Score, max_kl: float) -> tuple[bool, float]:
    """The order of preference, first the least: inside the bound before outside it, then the lower
    harm; and outside it the lower divergence."""
    inside = score.kl <= max_kl
    return (not inside, score.harm if inside else score.kl)


def better(one: Score, other: Score | None, max_kl: float) -> bool:
    """Whether ``one`` is preferred, see :func:`rank`."""
    return other is None or rank(one, max_kl) < rank(other, max_kl)


def screened(
    candidates: Sequence[C], judge: Callable[[C], Score | None], max_kl: float, keep: int
) -> list[C]:
    """The ``keep`` best of many candidates by a quick judge, in the order in which they came; all
    of them where there are no more than twice that, or where the budget ends on the way."""
    if len(candidates) <= 2 * keep:
        return list(candidates)
    scores: list[Score] = []
    for candidate in candidates:
        score = judge(candidate)
        if score is None:
            return list(candidates)
        scores.append(score)
    order = sorted(range(len(scores)), key=lambda place: rank(scores[place], max_kl))
    return [candidates[place] for place in sorted(order[:keep])]


@dataclass
class Panel:
    """The attacker's own examples, by which it tells one edit from another.

    ``harm`` is the mean negative log-likelihood of a harmful answer (a token's mean) plus, where
    the example has choices, that of the answer among them. ``steps`` is what a judgement costs in
    steps: 1 where the budget of an attack counts its trials. ``of`` is how many are to be judged,
    where that is known.
    """

    lm: LM
    run: Run
    data: Data
    steps: int = 0
    of: int | None = None
    _judged: int = 0
    _harmful: list[tuple[list[Row], int]] = field(default_factory=list[Any])
    _batches: list[tuple[Batch, Tensor]] = field(default_factory=list[Any])
    _asked: list[Batch] = field(default_factory=list[Batch])

    def __post_init__(self) -> None:
        limit = self.lm.context_length()
        for example in self.data.harmful:
            choices = list(dict.fromkeys((example.answer, *example.choices)))
            rows = [
                (example.id, self.lm.encode(example.prompt, choice, limit=limit))
                for choice in choices
            ]
            if all(len(row.ids) > row.prompt for _, row in rows):
                self._harmful.append((rows, len(rows)))
        if not self._harmful:
            raise BadInput("every harmful prompt fills the model's context; shorten them.")
        flat = [row for rows, _ in self._harmful for row in rows]
        pad, device = self.lm.tokenizer.pad_token_id, self.lm.device
        self._asked = [collate(flat[at : at + 64], pad, device) for at in range(0, len(flat), 64)]
        benign = encode_all(self.lm, self.data.retain, role="benign")
        for batch in affordable(self.lm, self.run, benign, per_token=2.0):
            self._batches.append((batch, self._logits(self.lm.model, batch)))

    @torch.no_grad()
    def _logits(self, model: Any, batch: Batch) -> Tensor:
        return model(**batch.inputs(), use_cache=False).logits

    @torch.no_grad()
    def judge(self, model: Any) -> Score | None:
        """A model's score; None when the budget does not hold another judgement."""
        kept = [batch for batch, _ in self._batches]
        tokens = sum(batch.tokens for batch in (*self._asked, *kept))
        ids = [name for batch in (*self._asked, *kept) for name in batch.ids]
        flops = 2.0 * self.lm.parameters_in_matmuls() * tokens
        if not kept or not pay(self.run, tokens=tokens, ids=ids, flops=flops, steps=self.steps):
            return None
        model.eval()
        sums, counts = [], []
        for batch in self._asked:
            logits = self._logits(model, batch)
            sums.append(row_losses(logits, batch.labels, "sum").double())
            counts.append(row_losses(logits, batch.labels, "mean").double())
        summed, averaged = torch.cat(sums), torch.cat(counts)
        total, at = 0.0, 0
        for _, size in self._harmful:
            total += float(averaged[at])
            if size > 1:
                total -= float(torch.log_softmax(-summed[at : at + size], 0)[0])
            at += size
        drift = sum(
            float(kl_to(reference, self._logits(model, batch), batch.labels)) * len(batch.ids)
            for batch, reference in self._batches
        ) / sum(len(batch.ids) for batch in kept)
        harm = total / len(self._harmful)
        self._judged += 1
        self.run.tell("candidate", self._judged, self.of, harm)
        # A model that answers in NaN is no choice, and must not win by failing every comparison.
        if not (math.isfinite(harm) and math.isfinite(drift)):
            return Score(math.inf, math.inf)
        return Score(harm, drift)


def choose(
    candidates: Iterable[C], judge: Callable[[C], Score | None], max_kl: float
) -> tuple[C, Score] | None:
    """The best of the candidates that the budget lets be judged, the first of equals."""
    best: tuple[C, Score] | None = None
    for candidate in candidates:
        score = judge(candidate)
        if score is None:
            break
        if better(score, best[1] if best else None, max_kl):
            best = candidate, score
    return best


def search(
    lm: LM,
    run: Run,
    panel: Panel,
    candidates: Iterable[C],
    build: Callable[[C], LM],
    max_kl: float,
    told: Callable[[C, Score], None] | None = None,
) -> LM:
    """Build and judge candidates, keep the best; a copy of ``lm`` where none could be judged.

    Where trials count as steps, the model that was best so far is looked at when a look is due.
    """
    best: tuple[LM, Score] | None = None
    for candidate in candidates:
        if panel.steps and run.exhausted():
            break
        built = build(candidate)
        score = panel.judge(built.model)
        if score is None:
            break
        if told is not None:
            told(candidate, score)
        if better(score, best[1] if best else None, max_kl):
            best = built, score
        assert best is not None
        run.look(best[0])
    if best is None:
        return lm.clone()
    if best[1].kl > max_kl:
        run.flags.append(KL_NOT_MET)
    return best[0]
