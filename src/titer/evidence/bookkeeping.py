"""What an attacker spent on a row by a budget."""

from __future__ import annotations

from collections.abc import Sequence

from titer.core import Spent
from titer.evidence.curves import Arm, Trajectory

__all__ = ["account"]


def account(tried: Sequence[Arm], seeds: Sequence[int], grid: Sequence[int]) -> tuple[Spent, ...]:
    """What an adversary that tried these settings had spent within each budget, mean over seeds.

    Steps, tokens and operations add up. Examples do not: the settings of a seed draw the same.
    """
    found: list[tuple[Spent, ...]] = []
    for arm in tried:
        # A setting that was only searched had a seed of its own.
        runs = [run for seed in seeds if (run := arm.run_of(seed))] or list(arm.runs)
        found += [_mean_spent(runs, grid)] if runs else []
    return tuple(
        Spent(
            steps=sum(spent.steps for spent in costs),
            tokens=sum(spent.tokens for spent in costs),
            examples=max(spent.examples for spent in costs),
            flops=sum(spent.flops for spent in costs),
        )
        for costs in zip(*found, strict=True)
    )


def _mean_spent(runs: Sequence[Trajectory], grid: Sequence[int]) -> tuple[Spent, ...]:
    costs = [[run.spent[int(index)] for index in run.on(grid).tolist()] for run in runs]
    count = len(runs)
    return tuple(
        Spent(
            steps=round(sum(cost[t].steps for cost in costs) / count),
            tokens=round(sum(cost[t].tokens for cost in costs) / count),
            examples=round(sum(cost[t].examples for cost in costs) / count),
            flops=sum(cost[t].flops for cost in costs) / count,
        )
        for t in range(len(grid))
    )
