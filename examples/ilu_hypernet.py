"""Invariant unlearning whose environment is where a hypernetwork's attack leaves the weights.

The attack is trained anew against the weights as they are, now and then, and the penalty is taken
at the attacked weights; its cost is part of the defence's.

    python examples/ilu_hypernet.py
"""

from __future__ import annotations

from titer.attacks.hypernet import Hypernet
from titer.conformance import tiny_data, tiny_lm
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.ilu import ILU
from titer.train.environments import Environment


def defence(steps: int = 4, every: int = 10) -> ILU:
    """NPO+ILU with benign text as it is, and seen from under an attack."""
    adversary = Hypernet(lr=3e-3, rank=4, width=32, budget=0.5)
    attacked = Environment(
        data="unrelated", attack="adversary", adversary=adversary, steps=steps, every=every
    )
    return ILU(base="npo-testbed", environments=(Environment(data="unrelated"), attacked))


def main() -> None:
    """On a model of twenty thousand weights, a few steps."""
    run = Run(budget=Budget(steps=6), data=tiny_data())
    defence(every=3)(tiny_lm(), run)
    print(f"{run.spent.steps} steps, losses {[round(loss, 2) for loss in run.losses]}")


if __name__ == "__main__":
    main()
