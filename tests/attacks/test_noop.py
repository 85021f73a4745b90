"""The control that does nothing, for nothing."""

from __future__ import annotations

from collections.abc import Callable

from titer.attacks.noop import Noop
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Spent


def test_it_gives_a_copy_looks_once_and_spends_nothing(
    lm: LM, make_run: Callable[..., Run]
) -> None:
    seen: list[str] = []
    run = make_run(9, checkpoints=(0, 3), emit=lambda m, _: seen.append(m.digest()))
    out = Noop()(lm, run)
    assert out.digest() == lm.digest()
    assert out.model is not lm.model
    assert seen == [lm.digest()]
    assert run.spent == Spent()
