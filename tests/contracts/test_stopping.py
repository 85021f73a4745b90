"""Every adversary can be ended at a look: it comes to its end, and spends no further step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from titer.core import catalogue
from titer.core.lm import LM
from titer.core.method import Run

CHOOSES_LAST = {"W05", "H07"}
"""Rows whose last step is a choice between what training left, which they still make."""


@pytest.mark.parametrize("row", catalogue.presets("attack"))
def test_an_attack_that_is_stopped_ends_there(
    row: str, lm: LM, make_run: Callable[..., Run]
) -> None:
    name, preset = catalogue.preset("attack", row)
    method = catalogue.build("attack", name, dict(preset.fields))
    stopped: list[int] = []

    def look(_lm: LM, run: Run) -> None:
        if run.spent.steps and not stopped:
            run.stop("stopped")
            stopped.append(run.spent.steps)

    run = make_run(6, emit=look, checkpoints=tuple(range(7)))
    out = method(lm, run)
    assert isinstance(out, LM)
    end = stopped[0] if stopped else 0  # a closed form takes no step
    assert run.spent.steps == end + (row in CHOOSES_LAST)
