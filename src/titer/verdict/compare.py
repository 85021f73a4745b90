"""The statistics over models, as a verdict has them."""

from __future__ import annotations

from collections.abc import Mapping

from titer.evidence.aggregate import (
    holm,
    kendall,
    minimum_detectable,
    rank_intervals,
    two_sided,
)
from titer.evidence.panel import Panel
from titer.evidence.resample import summarise
from titer.verdict.parts import Comparison, Pair, Rank

__all__ = ["compare"]


def compare(found: Mapping[str, Panel], n: int) -> Comparison:
    """All models beside each other by W at the largest budget: intervals of ranks, how firm the
    order is, and every pair with Holm's correction and the least difference it could have shown."""
    worst = {name: one.envelope(list(one.rows))[-1] for name, one in found.items() if one.rows}
    names = list(worst)
    pairs = {
        (first, second): worst[first] - worst[second]
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    }
    raw = {f"{first}\n{second}": two_sided(gap) for (first, second), gap in pairs.items()}
    adjusted = holm(raw)
    return Comparison(
        ranks=tuple(
            Rank(model=name, first=first, last=last)
            for name, (first, last) in rank_intervals(worst).items()
        ),
        kendall=kendall(worst),
        pairs=tuple(
            Pair(
                models=(first, second),
                difference=summarise(gap, n=n),
                p=raw[f"{first}\n{second}"],
                p_holm=adjusted[f"{first}\n{second}"],
                detectable=minimum_detectable(gap) if len(gap) > 1 else None,
            )
            for (first, second), gap in pairs.items()
        ),
    )
