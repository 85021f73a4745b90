"""Harmful and benign batches side by side, for attacks that mind both in every step."""

from __future__ import annotations

from collections.abc import Iterator

from titer.method import LM, Run
from titer.train.batches import Bundle, bundles, cycle

__all__ = ["pairs"]


def pairs(lm: LM, run: Run, batch_size: int) -> Iterator[Bundle]:
    """Bundles for ever: ``harmful`` and ``retain``, ``batch_size`` examples of each, packed: for
    losses that are means over tokens.

    Raises:
        BadInput: there are no examples of one of them.
    """
    sources = {"harmful": run.data.harmful, "retain": run.data.retain}
    return bundles(
        **{
            role: cycle(
                lm,
                examples,
                batch_size=batch_size,
                rng=run.rng(f"order {role}"),
                role=role,
                packed=True,
            )
            for role, examples in sources.items()
        }
    )
