"""Watching what an attack is fed, and organisms to attack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from titer.attacks import finetune
from titer.core.lm import LM
from titer.train.batches import Drawn
from titer.train.cohort import Finetuning
from titer.worlds import organisms


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The ids of every batch that reached the loop, in order."""
    seen: list[tuple[str, ...]] = []
    real = finetune.alone

    def noting(batches: Iterator[Drawn]) -> Iterator[Drawn]:
        for drawn in batches:
            seen.append(drawn.ids)
            yield drawn

    def alone(lm: LM, one: Finetuning) -> LM:
        one.member.batches = noting(one.member.batches)
        return real(lm, one)

    monkeypatch.setattr(finetune, "alone", alone)
    return seen


@pytest.fixture(scope="session")
def grown() -> dict[str, LM]:
    """The organisms that come with the package, by kind."""
    return {kind: LM.load(path) for kind, path in organisms.grow_all("nano").items()}
