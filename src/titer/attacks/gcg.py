"""Greedy coordinate gradient: a suffix of ordinary words, found by gradient-guided search. B rows,
S words of suffix, V vocabulary, C candidates."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.attacks._templates import after_every_prompt, with_template
from titer.method import LM, BadInput, Card, Preset, Run
from titer.train.batches import Batch, cycle
from titer.train.objectives import row_losses

__all__ = ["CARD", "GCG", "PRESETS", "swaps"]


def swaps(gradient_SV: Tensor, top: int, width: int, rng: random.Random) -> list[tuple[int, int]]:
    """``width`` single swaps (place, word), each drawn from the ``top`` words of a place whose
    gradient promises most; words of infinite gradient are never taken."""
    best = (-gradient_SV).topk(min(top, gradient_SV.shape[1]), dim=1)
    choices = [
        [word for word, gain in zip(words, gains, strict=True) if gain > -float("inf")]
        for words, gains in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    places = [rng.randrange(len(choices)) for _ in range(width)]
    return [(place, rng.choice(choices[place])) for place in places]


@dataclass(frozen=True, kw_only=True)
class GCG:
    """Search ``tokens`` words that, put after any harmful prompt, make its answer likely.

    Each step takes the gradient of a batch's loss with respect to the choice of each word, draws
    ``width`` candidates that swap one word for one of the ``top`` most promising, and keeps the
    best if it is better on that batch. The suffix is written into the chat template, so that the
    result is an ordinary model. It starts as words drawn by the seed.

    Source: Zou et al. 2023, arXiv:2307.15043, algorithm 2.
    Departs: all prompts at once, in batches, rather than one by one; a candidate that does not
    survive decoding and encoding is dropped; the target is the answer itself, not its first words;
    128 candidates a step, not 512.
    """

    tokens: int = 20
    width: int = 128
    top: int = 256
    batch_size: int = 8

    def __post_init__(self) -> None:
        if min(self.tokens, self.width, self.top, self.batch_size) < 1:
            raise BadInput(
                f"gcg: tokens={self.tokens}, width={self.width}, top={self.top}, "
                f"batch_size={self.batch_size}; give 1 or more."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        out = lm.clone()
        if run.exhausted() or run.steps_left() < 1:
            return out
        allowed, rng = _words(out), run.rng("search")
        start = suffix = _start(out, allowed, self.tokens, rng)
        forward = 2.0 * lm.parameters_in_matmuls()
        for batch in self._batches(_suffixed(out, start), run):
            # A forward and backward pass, and a forward pass for each candidate.
            tokens = batch.tokens * (1 + self.width)
            flops = forward * batch.tokens * (3 + self.width)
            spent = {"tokens": tokens, "examples": batch.ids, "flops": flops}
            if run.exhausted() or not run.affords(**spent):
                break
            loss, suffix = self._step(out, batch, _places(batch, start), suffix, allowed, rng)
            run.charge(steps=1, **spent)
            run.log(loss)
            if run.due():
                run.look(_suffixed(out, suffix))
        return _suffixed(out, suffix) if run.spent.steps else out

    def _batches(self, lm: LM, run: Run) -> Iterator[Batch]:
        rng = run.rng("order")
        return cycle(lm, run.data.harmful, batch_size=self.batch_size, rng=rng, role="harmful")

    def _step(
        self,
        lm: LM,
        batch: Batch,
        places_BS: Tensor,
        suffix: tuple[int, ...],
        allowed: Sequence[int],
        rng: random.Random,
    ) -> tuple[float, tuple[int, ...]]:
        """The loss with the suffix as it stands, and the best suffix found."""
        loss, gradient_SV = _gradient(lm, _put(batch, places_BS, suffix), batch, places_BS)
        barred = torch.ones(gradient_SV.shape[1], dtype=torch.bool, device=gradient_SV.device)
        barred[list(allowed)] = False
        gradient_SV[:, barred] = float("inf")
        tried = [
            (*suffix[:place], word, *suffix[place + 1 :])
            for place, word in swaps(gradient_SV, self.top, self.width, rng)
        ]
        tried = [new for new in dict.fromkeys(tried) if new != suffix and _survives(lm, new)]
        best, kept = loss, suffix
        for new, value in zip(tried, _values(lm, batch, places_BS, tried), strict=True):
            if value < best:
                best, kept = value, new
        return loss, kept


def _suffixed(lm: LM, suffix: Sequence[int]) -> LM:
    return with_template(lm, after_every_prompt(lm, " " + lm.tokenizer.decode(list(suffix))))


def _words(lm: LM) -> list[int]:
    """Tokens that a suffix may hold: no special ones, none that another token decodes to."""
    special = set(lm.tokenizer.all_special_ids)
    found = [token for token in range(len(lm.tokenizer)) if token not in special]
    return [token for token in found if _survives(lm, (token,))]


def _survives(lm: LM, suffix: Sequence[int]) -> bool:
    """Whether the suffix as text becomes the same tokens again."""
    text = " " + lm.tokenizer.decode(list(suffix))
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"] == list(suffix)


def _start(lm: LM, allowed: Sequence[int], count: int, rng: random.Random) -> tuple[int, ...]:
    """Words drawn until they survive as text; one word repeated where that takes too long."""
    for _ in range(100 if allowed else 0):
        drawn = tuple(rng.choice(allowed) for _ in range(count))
        if _survives(lm, drawn):
            return drawn
    for word in allowed:
        if _survives(lm, (word,) * count):
            return (word,) * count
    raise BadInput(f"gcg: no words of {lm.name} survive being written out and read again.")


def _places(batch: Batch, suffix: tuple[int, ...]) -> Tensor:
    """Where the suffix stands in each row, (B, S)."""
    starts: list[int] = []
    for row in batch.input_ids.tolist():
        where = range(len(row) - len(suffix), -1, -1)
        found = next((at for at in where if tuple(row[at : at + len(suffix)]) == suffix), None)
        if found is None:
            raise BadInput("gcg: the chat template joins the suffix to its neighbours.")
        starts.append(found)
    first = torch.tensor(starts, device=batch.input_ids.device)
    return first[:, None] + torch.arange(len(suffix), device=first.device)


def _put(batch: Batch, places_BS: Tensor, suffix: Sequence[int]) -> Tensor:
    words = torch.tensor([list(suffix)], device=places_BS.device).expand(len(places_BS), -1)
    return batch.input_ids.scatter(1, places_BS, words)


_ROWS = 256
"""Rows of candidates that go through the model at once."""


@torch.no_grad()
def _values(lm: LM, batch: Batch, places_BS: Tensor, tried: Sequence[Sequence[int]]) -> list[float]:
    """The batch's loss under each suffix."""
    found: list[float] = []
    rows = len(batch.input_ids)
    chunk = max(1, _ROWS // rows)
    for begin in range(0, len(tried), chunk):
        some = tried[begin : begin + chunk]
        ids = torch.cat([_put(batch, places_BS, suffix) for suffix in some])
        mask, labels = (part.repeat(len(some), 1) for part in (batch.attention_mask, batch.labels))
        logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        found += row_losses(logits, labels, "mean").view(len(some), rows).mean(1).tolist()
    return found


def _gradient(lm: LM, ids: Tensor, batch: Batch, places_BS: Tensor) -> tuple[float, Tensor]:
    """The loss, and its gradient with respect to a one-hot choice of each word, (S, V)."""
    table = lm.model.get_input_embeddings()
    embedded = table(ids).detach().requires_grad_(True)
    logits = lm.model(
        inputs_embeds=embedded, attention_mask=batch.attention_mask, use_cache=False
    ).logits
    loss = row_losses(logits, batch.labels, "mean").mean()
    (by_place,) = torch.autograd.grad(loss, embedded)
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    with torch.no_grad():
        return float(loss), by_place[rows, places_BS].sum(0) @ table.weight.T


PRESETS = {
    "I05": Preset(
        family="input",
        title="GCG: a suffix of twenty words",
        fields={"tokens": 20, "width": 128, "top": 256, "batch_size": 8},
        steps=(50, 250),
        source="arXiv:2307.15043",
    ),
}

CARD = Card(
    kind="attack",
    build=GCG,
    source="arXiv:2307.15043",
    summary="GCG: a suffix of ordinary words found by gradient-guided search",
    family="input",
    departures=(
        "all prompts at once, in batches; candidates that do not survive as text are dropped; "
        "the target is the answer itself; 128 candidates a step"
    ),
    presets=PRESETS,
)
