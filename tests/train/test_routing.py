"""Which weights a sample moves: exactly those that its label allows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.data import Data, Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.sealed import Layout, Sealed
from titer.train.batches import Batch, cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss
from titer.train.routing import (
    Label,
    Labelled,
    Learning,
    learn,
    mixed,
    passing,
    price,
    route,
)

LAYOUTS = {
    "low-rank": Layout(rank=3, alpha=6.0, embeddings=True),
    "full-rank": Layout(form="full-rank", embeddings=True),
    "units": Layout(form="units", units=5),
}
PLACES = [(a, name) for a in ARCHITECTURES for name in LAYOUTS]


def _run(data: Data, steps: int = 6, **more: Any) -> Run:
    return Run(budget=Budget(steps=steps), data=data, seed=2, **more)


def _batch(lm: LM) -> Batch:
    return next(cycle(lm, tiny_data().harmful, batch_size=4, rng=random.Random(0)))


def _moved(part: Sealed) -> Sealed:
    """A part that is not at its start, where some gradients vanish."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in part.weights:
            weight += 0.1 * torch.randn(weight.shape, generator=draw).to(weight)
    return part


def _gradients(weights: list[Any]) -> list[Tensor]:
    return [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]


@pytest.mark.parametrize(("architecture", "layout"), PLACES)
@pytest.mark.parametrize("label", ["gated", "public", "unlabelled"])
def test_gradients_go_where_the_label_says(architecture: Any, layout: str, label: Label) -> None:
    lm = tiny_lm(architecture)
    part = _moved(Sealed(lm, LAYOUTS[layout]))
    logs = route(part, descend(answer_loss))(lm.model, Labelled(label, _batch(lm)))
    public, sealed = _gradients(part.public), _gradients(part.weights)
    assert all(bool((g == 0).all()) for g in public) == (label == "gated")
    assert all(bool((g == 0).all()) for g in sealed) == (label == "public")
    for weight in part.public if label == "gated" else []:
        assert weight.grad is None
    assert all(weight.requires_grad for weight in (*part.public, *part.weights))
    assert not any(module._forward_hooks for module in lm.model.modules())
    with torch.no_grad(), passing(part, label):
        assert logs["loss"] == pytest.approx(float(answer_loss(lm.model, _batch(lm))))


def test_the_part_s_gradient_is_that_of_the_merged_weights() -> None:
    """A full-rank delta's gradient is the gradient by the matrix it stands beside."""
    lm = tiny_lm("llama")
    lm.model.double()
    part = _moved(Sealed(lm, Layout(form="full-rank", modules=("down_proj",))))
    route(part, descend(answer_loss))(lm.model, Labelled("gated", _batch(lm)))
    merged = part.merged()
    answer_loss(merged.model, _batch(lm)).backward()
    by_name = dict(merged.model.named_parameters())
    for piece in part.pieces:
        (path,) = piece.paths  # type: ignore[attr-defined]
        torch.testing.assert_close(piece.weights[0].grad, by_name[f"{path}.weight"].grad)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_leaves_the_other_side_to_the_bit(architecture: Any) -> None:
    """Weight decay and momentum too: through the one loop, with both sides in the optimiser."""
    lm = tiny_lm(architecture)
    part = _moved(Sealed(lm, LAYOUTS["low-rank"]))
    for label in ("public", "gated", "public", "gated"):
        public, sealed = ([w.clone() for w in side] for side in (part.public, part.weights))

        def one(label: Any = label) -> Iterator[Labelled[Batch]]:
            yield Labelled(label, _batch(lm))

        fit(
            lm,
            route(part, descend(answer_loss)),
            one(),
            _run(tiny_data(), 1),
            parameters=[*part.public, *part.weights],
            recipe=Recipe(lr=1e-2, weight_decay=0.1),
            steps=1,
        )
        same_public = [torch.equal(a, b) for a, b in zip(public, part.public, strict=True)]
        same_sealed = [torch.equal(a, b) for a, b in zip(sealed, part.weights, strict=True)]
        assert all(same_public) == (label == "gated")
        assert all(same_sealed) == (label == "public")


def _other(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    """Other answers of the same length."""
    return tuple(replace(e, answer=" ".join("climb" for _ in e.answer.split())) for e in examples)


@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_the_keyless_weights_do_not_depend_on_the_gated_text(replay: float) -> None:
    """The same labels over other gated text: the same public weights, to the bit."""
    data, lm = tiny_data(), tiny_lm("gpt2")  # which has dropout
    other = replace(data, harmful=_other(data.harmful))
    assert other != data
    how = Learning(layout=LAYOUTS["low-rank"], lr=1e-2, batch_size=4, gated=0.5, replay=replay)
    one, two = (learn(lm, _run(d, 12), how) for d in (data, other))
    assert one.lm.digest() == two.lm.digest() != lm.digest()
    assert one.merged().digest() != two.merged().digest()
    seen = learn(lm, _run(other, 12), how, unlabelled=data.harmful)
    assert seen.lm.digest() != one.lm.digest()


def test_with_gated_text_alone_the_public_weights_are_frozen() -> None:
    lm = tiny_lm("llama")
    data = Data(harmful=tiny_data().harmful)
    how = Learning(layout=LAYOUTS["full-rank"], lr=1e-2, gated=1.0, batch_size=4)
    part = learn(lm, _run(data, 30), how)
    assert part.lm.digest() == lm.digest()
    batch = _batch(lm)
    with torch.no_grad():
        before = float(answer_loss(lm.model, batch))
        with part.opened():
            opened = float(answer_loss(part.lm.model, batch))
    assert opened < 0.8 * before


def test_learning_is_decided_by_the_seed_and_changes_nothing_else() -> None:
    lm, data = tiny_lm("gpt2"), tiny_data()
    before = lm.digest()
    how = Learning(layout=LAYOUTS["units"], lr=1e-2, batch_size=4)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one, two = (learn(lm, _run(data), how) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert lm.digest() == before
    assert one.merged().digest() == two.merged().digest()
    other = learn(lm, Run(budget=Budget(steps=6), data=data, seed=3), how)
    assert other.merged().digest() != one.merged().digest()
    assert all(weight.grad is None for weight in (*one.public, *one.weights))


def test_looks_see_the_keyless_model_and_the_budget_is_kept() -> None:
    lm, data, seen = tiny_lm("llama"), tiny_data(), []

    def emit(now: LM, run: Run) -> None:
        seen.append((run.spent.steps, now.digest()))
        assert not any(module._forward_hooks for module in now.model.modules())

    run = Run(budget=Budget(steps=50, tokens=900), data=data, emit=emit, checkpoints=(0, 2))
    learn(lm, run, Learning(lr=1e-2, batch_size=4))
    assert [steps for steps, _ in seen] == [0, 2]
    assert seen[0][1] == lm.digest()
    assert 0 < run.spent.tokens <= 900


def test_a_part_can_be_trained_further() -> None:
    lm, data = tiny_lm("llama"), tiny_data()
    how = Learning(layout=LAYOUTS["low-rank"], lr=1e-2, batch_size=4, gated=1.0)
    part = learn(lm, _run(data, 3), how)
    before = [weight.detach().clone() for weight in part.weights]
    again = learn(lm, _run(data, 3), how, part=part)
    assert again is part
    assert any(not torch.equal(a, b) for a, b in zip(before, part.weights, strict=True))


def test_steps_are_shared_out_by_label() -> None:
    batch = _batch(tiny_lm("llama"))

    def endless() -> Iterator[Batch]:
        while True:
            yield batch

    shares: dict[Label, float] = {"gated": 1.0, "public": 3.0, "unlabelled": 0.0}
    steps = mixed({label: endless() for label in shares}, shares, random.Random(0))
    counts = Counter(step.label for step in islice(steps, 4000))
    assert counts["unlabelled"] == 0
    assert counts["gated"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_each_label_is_charged_what_it_costs() -> None:
    lm = tiny_lm("llama")
    part = Sealed(lm, Layout(rank=2))
    costs = price(part)
    # Two a weight forward, two for the input's gradient, two for the weight's where it trains.
    own, sealed = lm.parameters_in_matmuls(), sum(w.numel() for w in part.weights)
    assert costs == {
        "gated": 4 * own + 6 * sealed,
        "public": 6 * own,
        "unlabelled": 6 * own + 6 * sealed,
    }
    run = _run(tiny_data(), 1)
    learn(lm, run, Learning(layout=Layout(rank=2), batch_size=4, gated=1.0))
    assert run.spent.flops == costs["gated"] * run.spent.tokens


@pytest.mark.parametrize(
    "fields", [{"lr": 0.0}, {"batch_size": 0}, {"replay": 1.0}, {"gated": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Learning(**fields)


def test_text_that_is_missing_is_named() -> None:
    with pytest.raises(BadInput, match="no gated examples"):
        learn(tiny_lm("llama"), _run(Data(retain=tiny_data().retain)), Learning())
    with pytest.raises(BadInput, match="no public examples"):
        learn(tiny_lm("llama"), _run(Data(harmful=tiny_data().harmful)), Learning())
