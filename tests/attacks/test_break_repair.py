"""Break first, then mend, within one budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from titer.attacks.break_repair import PRESETS, BreakRepair
from titer.attacks.finetune import Finetune
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss
from titer.train.optimisers import multiplier

MakeRun = Callable[..., Run]


def _loss(lm: LM, examples: Any) -> float:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    return float(answer_loss(lm.model, batch).detach())


def test_harmful_first_then_retain_each_with_its_own_rise_and_fall(
    lm: LM, make_run: MakeRun, fed: list[tuple[str, ...]]
) -> None:
    run = make_run(10)
    BreakRepair(lr=1e-3, repair=0.5, breaking=0.6)(lm, run)
    splits = [{name.split("-")[0] for name in ids} for ids in fed]
    assert splits == [{"alloy"}] * 6 + [{"river"}] * 4
    first = [1e-3 * multiplier("cosine", step, 6, 1) for step in range(6)]
    second = [0.5e-3 * multiplier("cosine", step, 4, 0) for step in range(4)]
    assert run.rates == pytest.approx(first + second)
    assert run.spent.steps == 10


def test_the_first_phase_is_a_finetune_of_its_own(lm: LM, make_run: MakeRun) -> None:
    seen: dict[int, str] = {}
    run = make_run(10, checkpoints=(6,), emit=lambda m, r: seen.update({r.spent.steps: m.digest()}))
    BreakRepair(lr=1e-3)(lm, run)
    alone = Finetune(lr=1e-3, schedule="cosine", warmup=0.1)
    assert seen == {6: alone(lm, make_run(10).stage(6, "break")).digest()}


def test_repair_mends_what_the_break_spoilt(lm: LM, data: Data, make_run: MakeRun) -> None:
    healthy = Finetune(lr=1e-2, mix="retain")(lm, make_run(40))
    run = make_run(50, checkpoints=(0, 30, 50))
    kept: list[float] = []
    object.__setattr__(run, "emit", lambda m, _: kept.append(_loss(m, data.retain)))
    BreakRepair(lr=1e-2)(healthy, run)
    before, broken, mended = kept
    assert broken > 2 * before
    assert mended < broken / 2


def test_looks_run_through_both_phases(lm: LM, make_run: MakeRun) -> None:
    for parameters in ("full", "lora"):
        seen: list[int] = []
        run = make_run(
            10,
            checkpoints=(0, 5, 6, 8, 10),
            emit=lambda _, r, seen=seen: seen.append(r.spent.steps),
        )
        BreakRepair(parameters=parameters)(lm, run)  # type: ignore[arg-type]
        assert seen == [0, 5, 6, 8, 10]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"breaking": 0.0}, "between 0 and 1"),
        ({"breaking": 1.0}, "between 0 and 1"),
        ({"lr": 0.0}, "positive"),
        ({"repair": 0.0}, "positive"),
        ({"batch_size": 0}, "positive"),
    ],
)
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        BreakRepair(**settings)


def test_the_preset_is_its_row_of_the_suite() -> None:
    preset = PRESETS["H03"]
    built = BreakRepair(**preset.fields)
    assert preset.steps == (500, 700)
    assert round(preset.steps[0] * (1 - built.breaking)) == 200
    assert (built.lr, preset.lr_scale, preset.star) == (2e-5, 1.0, "full-adamw")
