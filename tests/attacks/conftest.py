"""Watching what an attack is fed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from titer.attacks import finetune
from titer.train.batches import Batch


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The ids of every batch that reached the loop, in order."""
    seen: list[tuple[str, ...]] = []
    real = finetune.fit

    def noting(batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            seen.append(batch.ids)
            yield batch

    def fit(lm: Any, grad: Any, batches: Iterator[Batch], run: Any, **settings: Any) -> None:
        real(lm, grad, noting(batches), run, **settings)

    monkeypatch.setattr(finetune, "fit", fit)
    return seen
