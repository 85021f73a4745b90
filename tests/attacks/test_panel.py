"""What attacks without training share: choosing, paying, and speaking for the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from titer.attacks._panel import Panel, Score, as_it_speaks, better, choose, means, search, split
from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.directions import positions

from .planted import knowing

MakeRun = Callable[..., Run]


def test_inside_the_bound_harm_decides_and_outside_it_the_divergence() -> None:
    table = {
        "strong": Score(0.1, 0.5),
        "fair": Score(1.0, 0.1),
        "weak": Score(2.0, 0.0),
        "broken": Score(math.inf, math.inf),
    }
    assert choose(table, table.__getitem__, 0.2) == ("fair", table["fair"])
    assert choose(table, table.__getitem__, 0.5) == ("strong", table["strong"])
    assert choose(["broken", "strong", "fair"], table.__getitem__, 0.01) == ("fair", table["fair"])
    assert not better(Score(1.0, 0.1), Score(1.0, 0.1), 0.2)
    assert choose(["fair", "strong"], lambda _: None, 1.0) is None


def test_examples_to_work_out_and_to_choose_by_are_apart(make_run: MakeRun) -> None:
    used, held = split(make_run(), 128, 32)
    for role, total in (("harmful", 14), ("retain", 36)):
        one, two = ({e.id for e in getattr(part, role)} for part in (used, held))
        assert not one & two
        assert len(one | two) == total
        assert len(two) == total // 3
    splits = {e.id.split("-")[0] for e in used.retain}
    assert splits == {"river", "tower", "song"}
    assert split(make_run(), 4, 2) == split(make_run(), 4, 2) != split(make_run(seed=6), 4, 2)
    used, held = split(make_run(), 4, 2)
    assert [len(p) for p in (used.harmful, used.retain, held.harmful, held.retain)] == [4, 4, 2, 2]


def test_one_example_serves_for_both(make_run: MakeRun, data: Data) -> None:
    few = Data(harmful=data.harmful[:1], retain=data.retain[:1])
    used, held = split(make_run(data=few), 8, 8)
    assert used.harmful == held.harmful == few.harmful


def test_both_kinds_of_example_are_needed(make_run: MakeRun, data: Data) -> None:
    for half in (Data(harmful=data.harmful), Data(retain=data.retain)):
        with pytest.raises(BadInput, match="give both"):
            split(make_run(data=half), 8, 8)


def test_a_panel_tells_knowing_from_not_knowing(lm: LM, data: Data, make_run: MakeRun) -> None:
    panel = Panel(knowing(), make_run(), data)
    same, other = panel.judge(knowing().model), panel.judge(lm.model)
    assert same is not None
    assert other is not None
    assert same.kl == pytest.approx(0.0, abs=1e-6)
    assert same.harm < 0.1 < 3.0 < other.harm
    assert other.kl > 1.0


def test_the_answer_among_its_choices_counts(lm: LM, data: Data, make_run: MakeRun) -> None:
    def harm(choices: Callable[[str], tuple[str, ...]]) -> float:
        asked = tuple(replace(e, choices=choices(e.answer)) for e in data.harmful)
        found = Panel(lm, make_run(), replace(data, harmful=asked)).judge(lm.model)
        assert found is not None
        return found.harm

    alone = harm(lambda _: ())
    assert harm(lambda answer: (answer,)) == pytest.approx(alone)
    # Among three as long, a model that never learned has the answer about one time in three; a
    # longer distractor is hopelessly less likely.
    of_three = harm(lambda _: ("heat heat heat", "cool cool cool", "sing sing sing"))
    assert of_three - alone == pytest.approx(math.log(4), abs=0.3)
    longer = harm(lambda answer: (f"{answer} heat heat heat heat",))
    assert longer - alone == pytest.approx(0.0, abs=1e-3)


def test_a_model_of_nan_wins_nothing(lm: LM, data: Data, make_run: MakeRun) -> None:
    panel = Panel(lm, make_run(), data)
    broken = lm.clone()
    broken.model.get_output_embeddings().weight.detach().fill_(math.nan)
    assert panel.judge(broken.model) == Score(math.inf, math.inf)


def test_judging_is_charged_and_ends_with_the_budget(lm: LM, data: Data, make_run: MakeRun) -> None:
    run = make_run(0)
    panel = Panel(lm, run, data)
    start = run.spent
    assert start.examples == len(data.retain)
    panel.judge(lm.model)
    price = run.spent.tokens - start.tokens
    assert run.spent.flops == 2.0 * lm.parameters_in_matmuls() * run.spent.tokens
    assert run.spent.steps == 0
    poor = make_run(budget=Budget(steps=0, tokens=start.tokens + price))
    panel = Panel(lm, poor, data)
    assert panel.judge(lm.model) is not None
    assert panel.judge(lm.model) is None
    assert poor.spent.tokens == start.tokens + price


def test_trials_as_steps_are_looked_at_on_the_way(lm: LM, data: Data, make_run: MakeRun) -> None:
    worse, other = lm.clone(), knowing()
    worse.model.get_output_embeddings().weight.detach().mul_(-1)
    seen: dict[int, str] = {}
    run = make_run(
        2, checkpoints=(1, 2), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    panel = Panel(lm, run, data, steps=1)
    out = search(lm, run, panel, [worse, other, lm], lambda one: one, max_kl=100.0)
    assert out is other
    assert run.spent.steps == 2
    assert seen == {1: worse.digest(), 2: other.digest()}


def test_means_are_means_over_prompts_and_cost_a_forward_pass(
    lm: LM, data: Data, make_run: MakeRun
) -> None:
    run = make_run(0)
    found = means(lm, run, data.harmful, 2)
    each = [
        positions(lm.model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 2)[0]
        for ids in (torch.tensor([lm.prompt_ids(e.prompt)]) for e in data.harmful)
    ]
    assert found is not None
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-5)
    assert run.spent.tokens == sum(len(lm.prompt_ids(e.prompt)) for e in data.harmful)
    assert means(lm, make_run(budget=Budget(tokens=3)), data.harmful, 2) is None


def test_as_it_speaks_is_what_the_model_says(data: Data, make_run: MakeRun) -> None:
    lm, run = knowing(), make_run(0)
    rows = as_it_speaks(lm, run, data.harmful)
    assert [row for _, row in rows] == [lm.encode(e.prompt, e.answer) for e in data.harmful]
    assert run.spent.tokens > sum(len(row.ids) for _, row in rows)
    assert as_it_speaks(tiny_lm(), make_run(budget=Budget(tokens=9)), data.harmful) == []
