"""Paired differences between arms, and what they say of a published direction.

S seeds, I items. Seeds and items are crossed: every seed asks the same items, paired between arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from titer.core.records import Estimate

__all__ = ["MARGIN", "Answer", "Claim", "Direction", "answer", "estimate", "table", "written"]

Scores = NDArray[np.float64]
Direction = Literal["below zero", "above zero", "not below zero", "about zero"]
Answer = Literal["agrees", "does not", "undecided", "not run"]

MARGIN = 0.05
"""Harm by which two arms may differ and still count as alike."""


def estimate(values: Scores | Sequence[Sequence[float]], level: float = 0.95) -> Estimate:
    """The mean of values (S, I), a score or a paired difference, with an interval for new seeds
    and new items.

    The squared standard errors over seeds (of the means over items) and over items (of the means
    over seeds) are added; degrees of freedom are Welch and Satterthwaite's. What varies by seed and
    item alike is counted twice, so the interval is rather too wide. One seed says nothing of seeds,
    so there is no interval; one item (a value a seed) leaves the t interval over seeds.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if not table.size or not np.isfinite(table).all():
        return Estimate(value=None, note="not run")
    seeds, items = table.shape
    value = float(table.mean())
    if seeds < 2:
        return Estimate(value=value, n=1, level=level, note="one seed")
    errors = [float(table.mean(axis=1).var(ddof=1)) / seeds]
    if items > 1:
        errors.append(float(table.mean(axis=0).var(ddof=1)) / items)
    total = sum(errors)
    if total == 0:
        return Estimate(value=value, low=value, high=value, n=seeds, level=level)
    units = (seeds - 1, items - 1)
    freedom = total**2 / sum(e**2 / u for e, u in zip(errors, units, strict=False))
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(total)
    return Estimate(value=value, low=value - half, high=value + half, n=seeds, level=level)


def answer(seen: Estimate, published: Direction, margin: float = MARGIN) -> Answer:
    """Whether an interval lies where a paper says it does, or wholly elsewhere.

    ``about zero`` is inside ±``margin``; ``not below zero`` leaves ``margin`` below zero.
    """
    low, high = seen.low, seen.high
    if seen.value is None:
        return "not run"
    if low is None or high is None:
        return "undecided"
    if published == "below zero":
        yes, no = high < 0, low >= 0
    elif published == "above zero":
        yes, no = low > 0, high <= 0
    elif published == "not below zero":
        yes, no = low >= -margin, high < 0
    else:
        yes, no = -margin <= low and high <= margin, low > margin or high < -margin
    return "agrees" if yes else "does not" if no else "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published direction of effect, what it is about here, and what was seen."""

    published: str
    source: str
    quantity: str
    direction: Direction
    seen: Estimate
    margin: float = MARGIN

    @property
    def answer(self) -> Answer:
        """Whether it reproduces here."""
        return answer(self.seen, self.direction, self.margin)

    def row(self) -> tuple[str, ...]:
        """A line of the table *published direction of effect / seen here / agrees?*."""
        head = (self.published, self.source, f"{self.quantity}: {self.direction}")
        return (*head, written(self.seen, signed=True), str(self.seen.n or "—"), self.answer)


def written(seen: Estimate, *, signed: bool = False, digits: int = 2) -> str:
    """``0.31 [0.20, 0.42]``; no bracket where there is no interval."""
    if seen.value is None:
        return "—"
    sign = "+" if signed else ""

    def number(value: float) -> str:
        # A rounded zero has no sign.
        return f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")

    if seen.low is None or seen.high is None:
        return f"{number(seen.value)} ({seen.note})" if seen.note else number(seen.value)
    return f"{number(seen.value)} [{number(seen.low)}, {number(seen.high)}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
