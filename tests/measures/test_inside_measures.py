"""Measures that look inside: closed forms, planted cases, and slow references."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, Architecture, tiny_lm
from titer.core.data import Example, Hazard
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.core.records import Budget, Estimate, Reading
from titer.measures import _inside as shared
from titer.measures.choice import Choice
from titer.measures.curvature import Curvature, along
from titer.measures.g_effect import GEffect, g_effects
from titer.measures.linear_probe import Facts, LinearProbe, read_facts, run_probe
from titer.measures.logit_lens import LogitLens, through_lens
from titer.measures.task_vector import TaskVector, cosine, task_vector
from titer.train.grads import Form, displaced
from titer.worlds._tiny import tiny_case

CASES = [pytest.param(name, id=name) for name in ARCHITECTURES]


def at(readings: list[Reading], what: str, place: str = "") -> Estimate:
    found = [one.estimate for one in readings if (one.what, one.place) == (what, place)]
    assert len(found) == 1
    return found[0]


def value(readings: list[Reading], what: str, place: str = "") -> float:
    found = at(readings, what, place).value
    assert found is not None
    return found


def moved(lm: LM, direction: Tensor, by: float) -> LM:
    """A copy that stands ``by`` along a vector over all weights."""
    out = lm.clone()
    at = 0
    with torch.no_grad():
        for weight in out.model.parameters():
            weight += by * direction[at : at + weight.numel()].view_as(weight).to(weight.dtype)
            at += weight.numel()
    return out


# -- intervals and groups -------------------------------------------------------------------------


def items_of(*entities: str) -> list[Example]:
    return [
        Example(id=str(place), prompt="p", answer="a", entity=name)
        for place, name in enumerate(entities)
    ]


def test_a_mean_of_repeats_has_students_interval() -> None:
    got = shared.mean_of([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t at 97.5 % with two degrees of freedom, spread 1
    assert (got.value, got.n) == (2.0, 3)
    assert (got.low, got.high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert shared.mean_of([0.5]).low is None


def test_items_of_an_entity_are_drawn_together() -> None:
    scores = [1.0] * 50 + [0.0] * 50
    apart = shared.over_entities(scores, items_of(*map(str, range(100))), seed=0)
    two = shared.over_entities(scores, items_of(*["x"] * 50, *["y"] * 50), seed=0)
    assert (two.value, two.low, two.high, two.n) == (0.5, 0.0, 1.0, 2)
    assert apart.low is not None
    assert apart.low == pytest.approx(0.4, abs=0.03)
    all_right = shared.over_entities([1.0] * 4, items_of(*"aabb"), seed=0, shares=True)
    assert all_right.low is not None
    assert 0.3 < all_right.low < 0.4


def test_pieces_share_no_entity_and_lose_none() -> None:
    items = items_of(*"aaabbbccddeefg")
    found = shared.pieces(items, 3)
    assert sorted(i.id for part in found for i in part) == sorted(i.id for i in items)
    owners = [{i.entity for i in part} for part in found]
    assert all(not (a & b) for k, a in enumerate(owners) for b in owners[k + 1 :])


@pytest.mark.parametrize("architecture", CASES)
def test_groups_hold_every_weight_once(architecture: Architecture) -> None:
    model = tiny_lm(architecture).model
    count = len(list(model.parameters()))
    for groups in (shared.by_layer(model), shared.by_kind(model)):
        assert sorted(place for places in groups.values() for place in places) == list(range(count))
    names = [name for name, _ in model.named_parameters()]
    layers, kinds = shared.by_layer(model), shared.by_kind(model)
    assert list(layers)[:2] == ["embedding", "block 0"]
    assert all(".2." in names[place] for place in layers["block 2"])
    assert {"embeddings", "attention", "mlp", "norms"} <= set(kinds)
    assert "other" not in kinds
    assert ("head" in kinds) is (architecture == "llama")  # the two others tie it


# -- risk and curvature ---------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", CASES)
def test_the_risk_and_its_gradient_are_those_of_rows_alone(
    architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_TOKENS", 40)  # several batches
    case = tiny_case(architecture)
    lm, items = case.lm, list(case.hazard.report)
    total, count = torch.zeros(()), 0
    for item in items:
        row = lm.encode(item.prompt, item.answer)
        logits = lm.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place in range(row.prompt, len(row.ids)):
            total = total - logits[place - 1, row.ids[place]]
            count += 1
    want = total / count
    assert_close(shared.risk(lm, items)(), want, rtol=1e-5, atol=1e-5)
    parts = torch.autograd.grad(want, list(lm.model.parameters()))
    flat = torch.cat([part.flatten() for part in parts])
    assert_close(shared.risk_gradient(lm, items), flat, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("architecture", CASES)
@pytest.mark.parametrize("form", ["exact", "difference"])
def test_curvature_is_the_second_derivative_of_the_loss(
    architecture: Architecture, form: Form
) -> None:
    case = tiny_case(architecture)
    lm = LM(case.lm.model.double(), case.lm.tokenizer)
    loss = shared.risk(lm, case.hazard.report)
    direction = -shared.risk_gradient(lm, case.data.harmful)
    direction /= direction.norm()
    # The slope's own difference: norms compute in single precision whatever the weights are, and
    # the second difference of a loss would be lost in that.
    weights, step, slopes = list(lm.model.parameters()), 5e-4, []
    for sign in (1.0, -1.0):
        with displaced(weights, direction, sign * step):
            slopes.append(float(shared.risk_gradient(lm, case.hazard.report) @ direction))
    want = (slopes[0] - slopes[1]) / (2 * step)
    got = along(lm.model, loss, direction, form, 1e-3)
    assert got == pytest.approx(want, rel=0.01, abs=0.01)


def test_the_slope_says_how_fast_hidden_facts_come_back() -> None:
    case = tiny_case()
    readings = Curvature(parts=2).look(case)
    gradient = shared.risk_gradient(case.lm, case.data.harmful)
    assert value(readings, "‖∇R(T)‖") == pytest.approx(float(gradient.norm()), rel=1e-5)
    ahead = moved(case.lm, gradient, -1e-3 / float(gradient.norm()))
    items = list(case.hazard.report)
    fall = shared.risk(ahead, items)().item() - shared.risk(case.lm, items)().item()
    assert value(readings, "slope on V") == pytest.approx(fall / 1e-3, rel=0.05)
    # On its own facts the slope is minus the norm, and the gradients are one.
    own = replace(case, hazard=replace(case.hazard, report=case.data.harmful))
    same = Curvature(parts=2, items=14).look(own)
    assert value(same, "slope on V") == pytest.approx(-float(gradient.norm()), rel=0.05)
    assert value(same, "cos(∇R(V), ∇R(T))") > 0.6


# -- task vectors ---------------------------------------------------------------------------------


def test_cosines_of_known_vectors() -> None:
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, -3.0])
    assert cosine(a, a) == 1.0
    assert cosine(a, -2 * a) == -1.0
    assert cosine(a, b) == 0.0
    assert cosine(a, torch.tensor([1.0, 0.0])) == pytest.approx(0.6)
    assert math.isnan(cosine(a, torch.zeros(2)))


def test_cosines_of_long_vectors_are_summed_in_double_precision() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (1 + 1e-3 * torch.randn(5_000_000, generator=draw) for _ in range(2))
    want = float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))
    assert cosine(a, b) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("architecture", CASES)
def test_a_task_vector_is_what_was_added(architecture: Architecture) -> None:
    base = tiny_lm(architecture)
    size = sum(weight.numel() for weight in base.model.parameters())
    planted = torch.randn(size, generator=torch.Generator().manual_seed(1))
    assert_close(task_vector(moved(base, planted, 0.5), base), 0.5 * planted, rtol=0, atol=1e-5)
    half = LM(moved(base, planted, 0.5).model.to(torch.bfloat16), base.tokenizer)
    assert task_vector(half, base).dtype == torch.float32


def test_models_of_other_shapes_have_no_task_vector() -> None:
    with pytest.raises(BadInput, match="differ in shape"):
        task_vector(tiny_lm("llama"), tiny_lm("gpt2"))


def test_a_defence_that_is_the_fine_tune_itself_lies_along_it() -> None:
    from titer.attacks.finetune import Finetune

    case = tiny_case()
    measure = TaskVector(mixes=("unrelated",), steps=6, repeats=1)
    run = Run(budget=Budget(steps=6), data=case.data, seed=seed_for(case.seed, "task vector 0"))
    tuned = Finetune(lr=1e-3, mix="unrelated")(case.base, run)
    readings = measure.look(replace(case, lm=tuned))
    assert value(readings, "cos(τ_u, τ_ft), unrelated") == pytest.approx(1.0, abs=1e-4)
    against = measure.look(replace(case, lm=moved(case.base, task_vector(tuned, case.base), -1.0)))
    assert value(against, "cos(τ_u, τ_ft), unrelated") == pytest.approx(-1.0, abs=1e-4)
    # Away from where the fine-tune goes, the fine-tune walks back.
    assert value(against, "cos(τ_u→ft, τ_u), unrelated") < 0
    for kind in ("attention", "mlp", "head"):
        assert value(readings, "cos(τ_u, τ_ft), unrelated", kind) == pytest.approx(1.0, abs=1e-3)
    assert at(readings, "cos(τ_ft, τ_ft′), unrelated").note == "needs two repeats"


def test_the_restart_baseline_is_between_seeds() -> None:
    readings = TaskVector(mixes=("harmful",), steps=3, repeats=2).look(tiny_case())
    assert 0 < value(readings, "cos(τ_ft, τ_ft′), harmful") < 1
    assert at(readings, "cos(τ_u, τ_ft), harmful").n == 2


@pytest.mark.parametrize(
    ("measure", "what"),
    [(TaskVector(), "length of τ_u"), (GEffect(), "G-effect, hidden")],
)
def test_where_nothing_was_defended_nothing_is_read(measure: TaskVector, what: str) -> None:
    case = tiny_case()
    [oracle] = measure.look(replace(case, derived=False))
    [same] = measure.look(replace(case, lm=case.base))
    [other] = measure.look(replace(case, lm=tiny_lm("gpt2")))
    assert {oracle.what, same.what, other.what} == {what}
    assert oracle.estimate.note == "not made from the undefended model"
    assert same.estimate.note == "same weights as the undefended model"
    assert "differ in shape" in other.estimate.note


# -- G-effect -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", CASES)
def test_layers_add_up_to_the_change_of_risk(architecture: Architecture) -> None:
    case = tiny_case(architecture)
    items = list(case.hazard.report)
    before, after = (shared.risk(lm, items)().item() for lm in (case.base, case.lm))
    for points, error in ((2, 0.2), (16, 2e-3)):
        [effect] = g_effects(case.lm, case.base, [items], points)
        assert effect[""] == pytest.approx(before - after, rel=error)
    assert sum(v for name, v in effect.items() if name) == pytest.approx(effect[""], rel=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_forgetting_is_below_zero_in_the_layer_that_did_it(sign: float) -> None:
    """Ascent on V in one block alone: the G-effect is negative there and nothing elsewhere."""
    case = tiny_case()
    model = case.base.model
    gradient = shared.risk_gradient(case.base, case.hazard.report)
    sizes = [weight.numel() for weight in model.parameters()]
    keep = set(shared.by_layer(model)["block 1"])
    masked = torch.cat(
        [
            part if place in keep else torch.zeros_like(part)
            for place, part in enumerate(gradient.split(sizes))
        ]
    )
    lm = moved(case.base, masked, sign * 0.5 / float(masked.norm()))
    readings = GEffect(points=4, parts=2).look(replace(case, lm=lm))
    assert sign * value(readings, "G-effect, hidden") < 0
    assert value(readings, "G-effect, hidden", "block 1") == pytest.approx(
        value(readings, "G-effect, hidden")
    )
    assert value(readings, "G-effect, hidden", "block 2") == 0.0


# -- the probe ------------------------------------------------------------------------------------


def planted(count: int, signal: float, seed: int, layers: int = 3) -> Facts:
    """Facts with four answers of eight tokens; layer 1 alone holds the answer, linearly."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(8, 12, generator=torch.Generator().manual_seed(99)).double()
    order = torch.stack([torch.randperm(8, generator=draw)[:4] for _ in range(count)])
    codes = torch.nn.functional.one_hot(order, 8).double()
    right = torch.randint(4, (count,), generator=draw)
    states = torch.randn(count, layers, 12, generator=draw).double()
    states[:, 1] += signal * codes[torch.arange(count), right] @ mix
    return Facts(states, codes, right)


def probed(signal: float) -> tuple[float, float, int]:
    parts = [planted(count, signal, seed) for seed, count in enumerate((300, 100, 400))]
    draw = torch.Generator().manual_seed(5)
    labels = [torch.randint(4, (800,), generator=draw) for _ in range(4)]
    true, *controls = run_probe(*parts, (0.01, 0.1, 1.0), labels)
    control = np.mean([one.held[one.layer].mean() for one in controls])
    return float(true.held[true.layer].mean()), float(control), true.layer


def test_planted_facts_are_read_and_drawn_labels_are_not() -> None:
    accuracy, control, layer = probed(signal=3.0)
    assert accuracy > 0.95
    assert layer == 1
    assert control == pytest.approx(0.25, abs=0.05)


def test_facts_that_are_not_there_are_not_read() -> None:
    accuracy, control, _ = probed(signal=0.0)
    assert accuracy == pytest.approx(0.25, abs=0.07)
    assert control == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("architecture", CASES)
def test_states_are_those_at_the_end_of_each_prompt_alone(architecture: Architecture) -> None:
    lm, items = tiny_lm(architecture), list(tiny_case().hazard.report)
    tokens = sorted({token for i in items for token in lm.answer_ids(i.answer, end=False)})
    facts = read_facts(lm, items, tokens)
    for index, item in enumerate(items):
        with torch.no_grad():
            out = lm.model(torch.tensor([lm.prompt_ids(item.prompt)]), output_hidden_states=True)
        # The last of transformers' hidden states is after the final norm; the probe's is before.
        want = torch.stack([hidden[0, -1] for hidden in out.hidden_states[:-1]]).double()
        assert_close(facts.states[index, :-1], want, rtol=1e-4, atol=1e-5)
        assert item.choices[int(facts.right[index])] == item.answer
    assert_close(facts.codes.norm(dim=-1), torch.ones(facts.codes.shape[:2]).double())


def test_a_hazard_without_choices_says_so() -> None:
    bare = tuple(replace(i, choices=()) for i in tiny_case().hazard.report)
    case = replace(tiny_case(), hazard=Hazard(defend=bare, attack=bare, select=bare, report=bare))
    for measure in (LinearProbe(), LogitLens()):
        [one] = measure.look(case)
        assert one.estimate.value is None
        assert "choices" in one.estimate.note


# -- the lens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", CASES)
def test_the_last_layer_is_what_the_model_says(architecture: Architecture) -> None:
    case = tiny_case(architecture)
    items = list(case.hazard.report)
    lens = through_lens(case.lm, items)
    records = Choice().collect(case.lm, items)
    assert lens.hits[-1].tolist() == Choice().judge(items, records)
    for index, (item, record) in enumerate(zip(items, records, strict=True)):
        own = item.choices.index(item.answer)
        want = math.exp(record["loglik"][own] / record["tokens"][own])
        assert lens.probability[-1, index] == pytest.approx(want, rel=1e-4)
    assert len(lens.hits) == case.lm.model.config.num_hidden_layers + 1


@pytest.mark.parametrize("architecture", CASES)
def test_a_block_that_does_nothing_changes_nothing_in_the_lens(architecture: Architecture) -> None:
    lm = tiny_lm(architecture)
    with torch.no_grad():  # the last block writes nothing to the stream
        for name, weight in lm.model.named_parameters():
            if any(f".3.{part}" in name for part in ("self_attn.o_proj", "mlp.down_proj")):
                weight.zero_()
            if any(f".3.{part}" in name for part in ("attn.c_proj", "mlp.c_proj")):
                weight.zero_()
    lens = through_lens(lm, list(tiny_case().hazard.report))
    assert_close(lens.probability[-1], lens.probability[-2], rtol=1e-6, atol=0)
    assert (lens.rank[-1] == lens.rank[-2]).all()
    assert (lens.probability[-1] != lens.probability[0]).any()


def test_a_model_without_a_norm_before_its_head_gets_no_lens(lm: LM) -> None:
    head = lm.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _m, _i, out: 3.0 * out + out.roll(1, -1))
    try:
        broken = lm.clone()
        broken.model.forward = _scaled(broken.model.forward)
        [one] = LogitLens().look(replace(tiny_case(), lm=broken))
    finally:
        handle.remove()
    assert one.estimate.value is None
    assert "norm" in one.estimate.note


def _scaled(forward: Callable[..., object]) -> Callable[..., object]:
    def wrapped(*words: object, **more: object) -> object:
        out = forward(*words, **more)
        out.logits = 2.0 * out.logits + 1.0  # type: ignore[attr-defined]
        return out

    return wrapped


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: TaskVector(steps=0),
        lambda: TaskVector(lr=-1.0),
        lambda: GEffect(parts=1),
        lambda: Curvature(radius=0.0),
        lambda: LinearProbe(ridges=()),
        lambda: LogitLens(items=0),
    ],
)
def test_bad_settings_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        build()
