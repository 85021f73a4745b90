"""How large real attackers' updates are, so that a budget allows what they do and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.core.protocol import SMALL_MODEL
from titer.core.records import Budget, Spent
from titer.hypernet.sites import at_linears, located, matrix
from titer.nn.weights import Weights
from titer.train.batches import draw
from titer.train.candidates import side_by_side
from titer.train.cohort import Finetuning
from titer.train.loop import Member, Recipe

__all__ = ["Ratio", "calibrated", "measured", "ratios"]

_RATES = (0.3, 1.0, 3.0)
_LATE = 10
"""Steps over which the loss that a fine-tune ends with is averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The change of one layer as shares of its weight: by largest singular value and by Frobenius
    norm. ``rank`` is the effective rank of the change, see
    :func:`titer.hypernet.adversary.effective_rank`."""

    path: str
    kind: str
    spectral: float
    frobenius: float
    rank: float


@torch.no_grad()
def ratios(before: Any, after: Any, modules: Sequence[str] = ()) -> list[Ratio]:
    """The change of each linear layer inside blocks from one model to another of the same shape.

    Raises:
        BadInput: the models differ in shape.
    """
    sites = at_linears(before, modules)
    found: list[Ratio] = []
    for site, old, new in zip(sites, located(before, sites), located(after, sites), strict=True):
        was, now = matrix(old), matrix(new)
        if was is None or now is None or was.shape != now.shape:
            raise BadInput(f"{site.path} differs in shape; compare a model with its fine-tune.")
        values = torch.linalg.svdvals(now.float() - was.float())
        energy = values.square()
        share = energy / energy.sum().clamp(min=1e-30)
        entropy = float(-torch.xlogy(share, share).sum())
        found.append(
            Ratio(
                path=site.path,
                kind=site.kind,
                spectral=float(values[0] / torch.linalg.matrix_norm(was.float(), 2)),
                frobenius=float(energy.sum().sqrt() / was.float().norm()),
                rank=float(torch.tensor(entropy).exp()) if float(energy.sum()) > 0 else 0.0,
            )
        )
    return found


def calibrated(found: Sequence[Ratio], share: float = 0.9) -> float:
    """The spectral budget that holds this share of the layers that an attacker changed.

    Raises:
        BadInput: nothing was measured, or no such share.
    """
    if not found or not 0 < share <= 1:
        raise BadInput(
            f"a budget from {len(found)} layers and share={share:g}; give some, and a share."
        )
    values = torch.tensor([one.spectral for one in found], dtype=torch.float64)
    return float(torch.quantile(values, share))


def measured(
    lm: LM,
    run: Run,
    *,
    steps: int = 50,
    rates: Sequence[float] = (),
    rank: int = 16,
    alpha: float = 32.0,
    batch_size: int = 16,
) -> list[Ratio]:
    """What a real attacker changes: LoRA fine-tunes of ``lm`` on the run's harmful examples, one a
    rate and all side by side, of which the one that ends with the least loss is measured.

    ``rates`` are by default 0.3, 1 and 3 times 3e-3, or 2e-4 above fifty million weights. What it
    costs is the run's, which is charged tokens and operations and no steps; where they are limited,
    half of what is left may be spent.

    Raises:
        BadInput: the run has a budget in examples, or too little left for a step.
        Diverged: at every rate.
    """
    if run.budget.examples is not None:
        raise BadInput("a budget cannot be calibrated on a budget in examples; give it a number.")
    size = sum(weight.numel() for weight in lm.model.parameters())
    middle = 3e-3 if size < SMALL_MODEL else 2e-4
    chosen = tuple(rates) or tuple(factor * middle for factor in _RATES)
    limit = _part(run, len(chosen), steps)
    runs = [Run(budget=limit, data=run.data, seed=seed_for(run.seed, "budget")) for _ in chosen]
    members: list[Finetuning] = []
    for own, rate in zip(runs, chosen, strict=True):
        order = own.rng("order harmful")
        members.append(
            Finetuning(
                weights=Weights(
                    which="lora", rank=rank, alpha=alpha, seed=own.rng("adapter").getrandbits(62)
                ),
                member=Member(
                    run=own,
                    batches=draw(
                        lm, own.data.harmful, batch_size=batch_size, rng=order, role="harmful"
                    ),
                    recipe=Recipe(lr=rate),
                    steps=steps,
                ),
            )
        )
    found = side_by_side(lm, members)
    _charge(run, [own.spent for own in runs])
    ended: list[tuple[float, LM]] = []
    for own, after in zip(runs, found, strict=True):
        if isinstance(after, LM) and own.losses:
            late = own.losses[-_LATE:]
            ended.append((sum(late) / len(late), after))
        elif isinstance(after, Exception) and not isinstance(after, Diverged):
            raise after
    if not ended:
        if any(isinstance(after, Diverged) for after in found):
            raise Diverged(f"the fine-tunes that a budget is measured by diverged at {chosen}.")
        raise BadInput("too little budget is left to calibrate on; give the patch's as a number.")
    return ratios(lm.model, min(ended, key=lambda one: one[0])[1].model)


def _part(run: Run, among: int, steps: int) -> Budget:
    """What each of several fine-tunes may spend of half of what is left."""
    spent, limit = run.spent, run.budget
    tokens = None if limit.tokens is None else (limit.tokens - spent.tokens) // (2 * among)
    flops = None if limit.flops is None else (limit.flops - spent.flops) / (2 * among)
    return Budget(steps=steps, tokens=tokens, flops=flops)


def _charge(run: Run, all_spent: Sequence[Spent]) -> None:
    run.charge(
        tokens=sum(spent.tokens for spent in all_spent),
        flops=sum(spent.flops for spent in all_spent),
    )
