"""Watching what an attack is fed, and organisms to attack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from titer.attacks import finetune
from titer.core.lm import LM
from titer.train.batches import Batch
from titer.worlds import organisms


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


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LM]]:
    """Nano organisms by kind, from ``$TITER_CACHE`` or a folder that goes away."""
    with pytest.MonkeyPatch.context() as patch:
        if "TITER_CACHE" not in os.environ:
            patch.setenv("TITER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield {kind: LM.load(path) for kind, path in organisms.grow_all("nano").items()}
