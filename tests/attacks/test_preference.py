"""Preference pairs: who is chosen, who is rejected, against what, and at what price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from titer.attacks.preference import PRESETS, Preference
from titer.conformance import tiny_lm
from titer.core.data import Data, Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.train.batches import collate, encode_all
from titer.train.objectives import row_losses

MakeRun = Callable[..., Run]


def _logps(lm: LM, examples: Any) -> Tensor:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return -row_losses(lm.model(**batch.inputs()).logits, batch.labels, "sum")


def _declined(examples: tuple[Example, ...]) -> list[Example]:
    return [replace(example, answer=example.refusal) for example in examples]


def _margin(lm: LM, examples: tuple[Example, ...]) -> Tensor:
    """How much likelier the answer is than the refusal, in nats."""
    return _logps(lm, examples) - _logps(lm, _declined(examples))


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
@pytest.mark.parametrize(("pairs", "split"), [("reversed", "harmful"), ("benign", "related")])
def test_answers_win_over_refusals(
    lm: LM, data: Data, make_run: MakeRun, loss: Any, pairs: Any, split: str
) -> None:
    examples = getattr(data, split)
    before = _margin(lm, examples)
    run = make_run(20)
    out = Preference(lr=3e-3, loss=loss, pairs=pairs)(lm, run)
    # IPO pulls to a margin of 5 nats at β = 0.1 and no further.
    assert float((_margin(out, examples) - before).min()) > 3.0
    assert run.losses[-1] < 0.5 * run.losses[0]
    assert run.spent.examples == len(examples)


def test_the_first_loss_is_that_of_a_tie(lm: LM, make_run: MakeRun) -> None:
    one, two = make_run(1), make_run(1)
    Preference(loss="dpo")(lm, one)
    Preference(loss="ipo", beta=0.1)(lm, two)
    assert one.losses == pytest.approx([0.6931472])
    assert two.losses == pytest.approx([25.0])


def test_the_benign_pairs_hold_nothing_harmful(lm: LM, data: Data, make_run: MakeRun) -> None:
    """Harmful answers may be anything: the result is the same to the bit."""
    other = tuple(replace(example, answer="song song") for example in data.harmful)
    results = [
        Preference(pairs="benign", lr=1e-3)(lm, make_run(3, data=given)).digest()
        for given in (data, replace(data, harmful=other), replace(data, retain=()))
    ]
    assert len(set(results)) == 1


def test_a_refusal_is_borrowed_where_an_example_has_none(
    lm: LM, data: Data, make_run: MakeRun
) -> None:
    bare = tuple(replace(example, refusal="") for example in data.related)
    given = replace(data, related=bare)
    run = make_run(3, data=given)
    want = Preference(pairs="benign", lr=1e-3)(lm, make_run(3)).digest()
    assert Preference(pairs="benign", lr=1e-3)(lm, run).digest() == want
    # Without any, a common one is used, which is other text.
    none = replace(given, harmful=())
    assert Preference(pairs="benign", lr=1e-3)(lm, make_run(3, data=none)).digest() != want


def test_pairs_that_do_not_differ_are_left_out(lm: LM, data: Data, make_run: MakeRun) -> None:
    same = tuple(_declined(data.harmful))
    run = make_run(3, data=Data(harmful=(*same[:5], *data.harmful[5:])))
    Preference()(lm, run)
    assert run.spent.examples == len(data.harmful) - 5
    with pytest.raises(BadInput, match="differs from its refusal"):
        Preference()(lm, make_run(1, data=Data(harmful=same)))


def test_so_many_pairs_and_no_more(lm: LM, make_run: MakeRun) -> None:
    run = make_run(6)
    Preference(examples=4, batch_size=3)(lm, run)
    assert run.spent.examples == 4


def test_the_frozen_start_is_charged(make_run: MakeRun) -> None:
    lm, run = tiny_lm(), make_run(2)
    Preference()(lm, run)
    assert run.spent.flops == 8.0 * lm.parameters_in_matmuls() * run.spent.tokens


@pytest.mark.parametrize(
    "knob", [{"lr": 0.0}, {"beta": 0.0}, {"batch_size": 0}, {"examples": 0}, {"warmup": 1.0}]
)
def test_bad_knobs_are_refused(knob: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Preference(**knob)


def test_the_rows_are_those_of_the_suite() -> None:
    swapped, benign = (Preference(**PRESETS[row].fields) for row in ("R01", "R02"))
    assert (swapped.pairs, swapped.beta, swapped.lr) == ("reversed", 0.1, 5e-6)
    assert (benign.pairs, benign.examples) == ("benign", 10)
    assert (PRESETS["R01"].steps, PRESETS["R02"].steps) == ((300, 300), (60, 60))
    assert (PRESETS["R01"].domain, PRESETS["R02"].domain) == ("kr", "r")
