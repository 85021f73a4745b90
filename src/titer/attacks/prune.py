"""Zero the weights that hold a safeguard up and little else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from titer.attacks._panel import Panel, Row, affordable, as_it_speaks, search, split
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.edits import linears, moments, parameters, unpadded
from titer.nn.reach import of_matrices, tell
from titer.train.batches import encode_all
from titer.train.objectives import cross_entropy

__all__ = ["CARD", "PRESETS", "Prune", "largest", "snip"]

Scores = dict[str, Tensor]


def snip(lm: LM, run: Run, rows: Sequence[Row]) -> Scores | None:
    """``|w · ∂L/∂w|`` of every matrix in the blocks, (O, I) by path, the mean over examples.

    One backward pass an example, as the absolute value is taken of each. None if the budget
    affords none.
    """
    maps = linears(lm.model)
    weights = parameters(maps)
    flags = [weight.requires_grad for weight in weights]
    total: list[Tensor] | None = None
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for batch in affordable(lm, run, rows, per_token=6.0, batch_size=1):
            logits: Tensor = lm.model(**batch.inputs(), use_cache=False).logits
            # An expert that no token goes to has no gradient.
            grads = torch.autograd.grad(
                cross_entropy(logits, batch.labels),
                weights,
                allow_unused=True,
                materialize_grads=True,
            )
            each = [(w.detach() * g).abs().float() for w, g in zip(weights, grads, strict=True)]
            total = each if total is None else [a + b for a, b in zip(total, each, strict=True)]
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.requires_grad_(flag)
    if total is None:
        return None
    by_weight = {id(weight): values for weight, values in zip(weights, total, strict=True)}
    return {linear.path: linear.part(by_weight[id(linear.weight)]) for linear in maps}


def _wanda(lm: LM, run: Run, rows: Sequence[Row]) -> Scores | None:
    """``|w_ij| · ‖x_j‖`` over all real tokens."""
    maps = linears(lm.model)
    with moments(lm.model, maps) as seen:
        for batch in affordable(lm, run, rows, per_token=2.0):
            forward: Any = lm.model
            for inputs in unpadded(batch.inputs()):
                forward(**inputs, use_cache=False)
    if not seen.seen:
        return None
    return {
        linear.path: linear.weight_OI.float().abs() * seen.sums[linear.path].diagonal().sqrt()
        for linear in maps
    }


def largest(scores_OI: Tensor, share: float, *, by_row: bool) -> Tensor:
    """A mask of the ``share`` of entries with the largest scores, of the matrix or of each row.

    The count is rounded; ties go to the first.
    """
    rows = scores_OI if by_row else scores_OI.reshape(1, -1)
    count = round(share * rows.shape[1])
    mask = torch.zeros_like(rows, dtype=torch.bool)
    order = rows.argsort(dim=1, descending=True, stable=True)[:, :count]
    return mask.scatter_(1, order, True).reshape(scores_OI.shape)


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Zero weights in the top share ``q`` for what the model says now, not the top ``p`` for use.

    Importance is worked out twice: on harmful prompts with the model's own present answers (its
    refusals, or what stands where knowledge was), and on benign pairs. ``snip`` scores are
    ``|w · ∂L/∂w|``, ranked in each matrix; ``wanda`` scores are ``|w| · ‖x‖``, ranked in each row.
    ``magnitude`` needs no data for its scores: the share ``q`` of each matrix nearest to zero goes,
    and ``p`` counts for nothing. Each pair of shares is a trial and a step; the attacker's own
    held-out answers choose among those that move benign answers by at most ``max_kl``.

    Source: Wei et al. 2024, arXiv:2402.05162 (set difference); Lee et al. 2018, arXiv:1810.02340
    (SNIP); Sun et al. 2023, arXiv:2306.11695 (Wanda).
    Departs: the set is chosen under a bound on divergence; on prompts from the attacker's data.
    """

    score: Literal["snip", "wanda", "magnitude"] = "snip"
    p: tuple[float, ...] = (0.01, 0.03, 0.05, 0.1)
    q: tuple[float, ...] = (0.01, 0.03, 0.05, 0.1)
    max_kl: float = 0.25
    prompts: int = 64
    held: int = 32

    def __post_init__(self) -> None:
        if not (self.p and self.q and all(0 <= share <= 1 for share in (*self.p, *self.q))):
            raise BadInput(f"prune: p={self.p}, q={self.q}; both hold shares between 0 and 1.")
        if min(self.prompts, self.held) < 1:
            raise BadInput(f"prune: prompts={self.prompts} and held={self.held}; 1 or more each.")

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if run.steps_left() < 1:
            return lm.clone()
        used, held = split(run, self.prompts, self.held)
        panel = Panel(lm, run, held, steps=1)
        tell(run, of_matrices(lm.model).share, "weights of the blocks")
        by_row = self.score == "wanda"
        if self.score == "magnitude":
            guard: Scores | None = {m.path: -m.weight_OI.float().abs() for m in linears(lm.model)}
            use = guard
            pairs = [(0.0, q) for q in self.q]
        else:
            measure = snip if self.score == "snip" else _wanda
            work = lm.clone()
            guard = measure(work, run, as_it_speaks(work, run, used.harmful))
            use = measure(work, run, encode_all(work, used.retain))
            pairs = [(p, q) for q in self.q for p in self.p]
        if guard is None or use is None:
            return lm.clone()

        def build(pair: tuple[float, float]) -> LM:
            out = lm.clone()
            for linear in linears(out.model):
                needed = largest(use[linear.path], pair[0], by_row=by_row)
                gone = largest(guard[linear.path], pair[1], by_row=by_row) & ~needed
                linear.weight_OI.masked_fill_(gone, 0)
            return out

        return search(lm, run, panel, pairs, build, self.max_kl)


PRESETS = {
    "W01": Preset(
        family="weight surgery",
        title="SNIP set difference, sixteen pairs",
        fields={"score": "snip", "p": (0.01, 0.03, 0.05, 0.1), "q": (0.01, 0.03, 0.05, 0.1)},
        steps=(16, 16),
        source="arXiv:2402.05162",
    ),
}

CARD = Card(
    kind="attack",
    build=Prune,
    source="arXiv:2402.05162, arXiv:2306.11695",
    summary="weights that serve the safeguard and not use are zeroed; a step is a pair tried",
    family="weights",
    access="gradient",
    departures="chosen under a bound on divergence, on the attacker's own prompts",
    presets=PRESETS,
)
