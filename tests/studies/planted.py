"""Traces as a study would leave them, with the harm that a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studies._seen import Seen

from titer.core.records import Budget, Part, Point, Spent, Trace, Trial

__all__ = ["seen", "trace"]

LOOKS = (0, 1, 3, 10, 30, 60)


def trace(harm: Sequence[Sequence[float]], *, select: float = 0.5, status: str = "ok") -> Trace:
    """One row of item scores a look; the last is repeated where there are fewer than looks."""
    rows = [*harm, *([harm[-1]] * (len(LOOKS) - len(harm)))]
    points = tuple(
        Point(
            spent=Spent(steps=steps),
            scores={"harm": tuple(row), "select": (select,), "utility:far": (1.0, 0.96)},
        )
        for steps, row in zip(LOOKS, rows, strict=True)
    )
    trial = Trial(
        model="m",
        world="w",
        domain="A",
        attack=Part(name="finetune"),
        budget=Budget(steps=60),
        seed=0,
        suite="s",
    )
    return Trace(trial=trial, status=status, points=points)  # type: ignore[arg-type]


def seen(
    arms: Mapping[tuple[str, str], Sequence[float]],
    *,
    before: float = 0.2,
    jitter: float = 0.01,
    items: int = 40,
    seeds: int = 3,
) -> Seen:
    """A study whose harm after an attack is, by arm and adversary, one level a seed.

    Items differ by a little, so that intervals have a width.
    """
    traces = {}
    for (arm, adversary), levels in arms.items():
        for seed in range(seeds):
            level = levels[seed % len(levels)]
            after = [level + jitter * ((item + seed) % 3 - 1) for item in range(items)]
            traces[arm, adversary, seed] = trace([[before] * items, after])
    return Seen(seeds=tuple(range(seeds)), traces=traces)
