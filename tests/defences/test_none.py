"""The control that defends nothing."""

from __future__ import annotations

from collections.abc import Callable

from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Spent
from titer.defences.none import Undefended


def test_it_gives_a_copy_and_spends_nothing(lm: LM, make_run: Callable[..., Run]) -> None:
    run = make_run(9)
    out = Undefended()(lm, run)
    assert out.digest() == lm.digest()
    assert out.model is not lm.model
    assert run.spent == Spent()
