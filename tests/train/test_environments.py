"""Environments: their text, where the weights stand, and that chance is each one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.train.batches import IGNORED, Batch
from titer.train.environments import Environment, environments, places, streams

MakeRun = Callable[..., Run]


def _first(lm: LM, run: Run, *rows: Environment, index: int = 0) -> Batch:
    return next(streams(lm, run, rows, 6)[f"environment {index}"])


def test_every_way_to_write_them() -> None:
    both = (Environment(), Environment(data="related"))
    assert environments("unrelated, related") == both
    assert environments(["unrelated", {"data": "related"}]) == both
    assert environments(json.dumps([{"data": "unrelated"}, {"data": "related"}])) == both
    assert environments(Environment(size=0.5)) == (Environment(size=0.5),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "at least one"),
        ([{"data": "mars"}], "data"),
        ([{"colour": "red"}], "colour"),
        ([{"attack": "adversary"}], "go together"),
        ([{"bits": 1}], "bits"),
        ([{"size": -1.0}], "negative"),
        ([3], "no environment"),
    ],
)
def test_what_is_no_environment_is_refused(given: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        environments(given)


@pytest.mark.parametrize(
    ("source", "mark"),
    [("unrelated", "song"), ("related", "tower"), ("retain", "river"), ("forget", "alloy")],
)
def test_data_is_what_it_says(lm: LM, make_run: MakeRun, source: Any, mark: str) -> None:
    batch = _first(lm, make_run(), Environment(data=source))
    assert {name.split("-")[0] for name in batch.ids} == {mark}


def test_phrasing_and_template(lm: LM, make_run: MakeRun) -> None:
    plain = _first(lm, make_run(), Environment(phrasing="long"))
    assert all(int(name.split("-")[1]) % 2 for name in plain.ids)
    wrapped = _first(lm, make_run(), Environment(template="instruction"))
    assert wrapped.tokens > _first(lm, make_run(), Environment()).tokens
    with pytest.raises(BadInput, match="there are long, short"):
        _first(lm, make_run(), Environment(phrasing="sung"))


def test_a_new_environment_leaves_the_draws_of_the_others_alone(lm: LM, make_run: MakeRun) -> None:
    alone = streams(lm, make_run(), [Environment()], 4)["environment 0"]
    among = streams(lm, make_run(), [Environment(), Environment()], 4)
    first = [batch.ids for batch in islice(among["environment 0"], 5)]
    assert first == [batch.ids for batch in islice(alone, 5)]
    assert first != [batch.ids for batch in islice(among["environment 1"], 5)]


@pytest.mark.parametrize("how", ["cipher", "random"])
def test_a_scramble_changes_ordinary_tokens_only(lm: LM, make_run: MakeRun, how: Any) -> None:
    plain = streams(lm, make_run(), [Environment()], 6)["environment 0"]
    mixed = streams(lm, make_run(), [Environment(scramble=how)], 6)["environment 0"]
    table: dict[int, set[int]] = {}
    special = set(lm.tokenizer.all_special_ids)
    for one, two in islice(zip(plain, mixed, strict=True), 8):
        assert one.ids == two.ids
        assert_close(one.attention_mask, two.attention_mask)
        assert torch.equal(one.labels == IGNORED, two.labels == IGNORED)
        kept = two.labels != IGNORED
        assert torch.equal(two.labels[kept], two.input_ids[kept])
        for was, now in zip(one.input_ids.flatten(), two.input_ids.flatten(), strict=True):
            table.setdefault(int(was), set()).add(int(now))
    assert all(table[token] == {token} for token in special & set(table))
    ordinary = [now for was, now in table.items() if was not in special]
    if how == "cipher":
        assert all(len(now) == 1 for now in ordinary)
        assert len(set().union(*ordinary)) == len(ordinary)
    else:
        assert max(len(now) for now in ordinary) > 3


def _inside(lm: LM, run: Run, row: Environment, times: int = 1) -> list[list[torch.Tensor]]:
    batches = {"environment 0": _first(lm, run, row)}
    at = places(lm, run, [row])
    found = []
    for _ in range(times):
        (place,) = at(batches, 0)
        visits = []
        for _ in range(2):
            with place.moved(lm.model):
                visits.append([weight.detach().clone() for weight in lm.model.parameters()])
        # Visited again in the same step, the weights stand at the same place.
        assert all(torch.equal(a, b) for a, b in zip(*visits, strict=True))
        found.append(visits[0])
    return found


@pytest.mark.parametrize(
    "row",
    [
        {"attack": "noise", "size": 0.1},
        {"attack": "rounding", "bits": 3},
        {"attack": "adapter", "size": 0.2, "rank": 2},
        {"attack": "adversary", "adversary": {"type": "Finetune", "lr": 1e-2}, "every": 2},
    ],
)
def test_an_attack_moves_the_weights_and_they_come_back(
    lm: LM, make_run: MakeRun, row: dict[str, Any]
) -> None:
    before, run = lm.digest(), make_run()
    names = [name for name, _ in lm.model.named_parameters()]
    was = dict(lm.model.named_parameters())
    inside = _inside(lm, run, Environment(**row), times=3)
    assert lm.digest() == before
    for name, now in zip(names, inside[0], strict=True):
        weight, moved = was[name].detach(), not torch.equal(now, was[name])
        if weight.dim() < 2:
            assert moved == (row["attack"] == "adversary")
            continue
        assert moved
        change = now - weight
        if row["attack"] == "noise" and weight.numel() > 300:
            assert_close(change.std() / weight.std(), torch.tensor(0.1), rtol=0.2, atol=0)
        if row["attack"] == "rounding":
            assert max(len(line.unique()) for line in now) <= 7
            assert_close(now.abs().amax(-1), weight.abs().amax(-1))
        if row["attack"] == "adapter":
            assert_close(change.norm() / weight.norm(), torch.tensor(0.2), rtol=1e-3, atol=0)
            assert int(torch.linalg.matrix_rank(change, rtol=1e-3)) == 2
    again = all(torch.equal(a, b) for a, b in zip(inside[0], inside[1], strict=True))
    assert again == (row["attack"] in ("rounding", "adversary"))
    if row["attack"] == "adversary":
        assert not torch.equal(inside[1][0], inside[2][0])  # every second step, anew


def test_an_adversary_is_paid_for_and_never_overspends(lm: LM, make_run: MakeRun) -> None:
    row = Environment(attack="adversary", adversary="finetune", steps=2, every=1)
    run = make_run(3)
    _inside(lm, run, row)
    assert run.spent.tokens > 0
    assert run.spent.flops == pytest.approx(6.0 * lm.parameters_in_matmuls() * run.spent.tokens)
    assert run.spent.steps == 0
    poor = make_run(budget=Budget(steps=3, tokens=run.spent.tokens // 4))
    _inside(lm, poor, row)
    assert poor.spent.over(poor.budget) == []
    with pytest.raises(BadInput, match="examples"):
        _inside(lm, make_run(budget=Budget(steps=3, examples=99)), row)
