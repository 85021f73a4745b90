"""Penalties against autograd, finite differences and exact enumeration.

Rows below are made up, in float64 on the toy model; where a penalty needs a real transformer the
tiny ones serve.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.method import Run
from titer.train import environments
from titer.train.batches import IGNORED, Batch, collate, encode_all
from titer.train.environments import Environment
from titer.train.grads import displaced, flat, gradient, trained
from titer.train.objectives import cross_entropy, row_scale_slopes
from titer.train.penalties import Kind, Penalty, Place, split

MakeRun = Callable[..., Run]
KINDS: tuple[Any, ...] = get_args(Kind)
SECOND = ("param_scale", "grad_norm", "iga", "interaction")


def _batch(rows: int = 8, tokens: int = 6, seed: int = 0, answer: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(11, (rows, tokens), generator=draw)
    labels = ids.clone()
    labels[:, :-answer] = IGNORED
    return Batch(ids, torch.ones_like(ids), labels, tuple(map(str, range(rows))), ids.numel())


def _forget(model: Any) -> Callable[[], Tensor]:
    batch = _batch(5, seed=9)
    return lambda: -cross_entropy(model(input_ids=batch.input_ids).logits, batch.labels)


def _places(*seeds: int, rows: int = 8) -> list[Place]:
    return [
        Place(_batch(rows, seed=seed), weight=1.0 + 0.5 * index) for index, seed in enumerate(seeds)
    ]


def _added(
    penalty: Penalty, model: nn.Module, places: Sequence[Place], scale: float = 1.0
) -> tuple[float, Tensor]:
    """The penalty's value and the gradient that it adds."""
    model.zero_grad(set_to_none=True)
    value = penalty.add(model, places, scale, _forget(model))
    weights = trained(model)
    parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    return value, flat(parts)


def _value(make: Callable[[], Penalty], model: nn.Module, places: Sequence[Place]) -> float:
    return _added(make(), copy.deepcopy(model), places)[0]


def _maker(kind: Kind, **settings: Any) -> Callable[[], Penalty]:
    """Penalties without memory of earlier steps."""
    return lambda: Penalty(kind=kind, smoothing=0.0, **{"form": "exact", **settings})


def _seeds(kind: Kind) -> tuple[int, ...]:
    return (1, 2, 3) if kind in ("v_rex", "iga", "fishr") else (1, 2)


class _Deep(nn.Module):
    """The toy, with its states and a head apart, for penalties that look at the head."""

    def __init__(self, toy: Any) -> None:
        super().__init__()
        self.toy = toy

    def forward(self, input_ids: Tensor, **_: object) -> Any:
        out = self.toy(input_ids)
        out.hidden_states = (self.toy.hidden(input_ids),)
        return out


# -- the closed form --------------------------------------------------------------------------


def _by_autograd(logits: Tensor, labels: Tensor) -> Tensor:
    w = torch.ones((), dtype=logits.dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(cross_entropy(w * logits, labels), w, create_graph=True)
    return slope


def test_the_closed_form_is_what_autograd_finds() -> None:
    batch = _batch()
    draw = torch.Generator().manual_seed(3)
    logits = (3 * torch.randn(8, 6, 11, generator=draw)).double().requires_grad_()
    count = (batch.labels[:, 1:] != IGNORED).sum()
    closed = row_scale_slopes(logits, batch.labels).sum() / count
    auto = _by_autograd(logits, batch.labels)
    assert_close(closed, auto, rtol=1e-14, atol=1e-15)
    ours, theirs = (torch.autograd.grad(g**2, logits, retain_graph=True)[0] for g in (closed, auto))
    assert_close(ours, theirs, rtol=1e-13, atol=1e-16)


def test_a_constant_on_the_logits_changes_nothing() -> None:
    batch, draw = _batch(), torch.Generator().manual_seed(3)
    logits = torch.randn(8, 6, 11, generator=draw).double()
    shift = 100 * torch.randn(8, 6, 1, generator=draw).double()
    plain, shifted = (row_scale_slopes(z, batch.labels) for z in (logits, logits + shift))
    assert_close(plain, shifted, rtol=1e-11, atol=1e-12)
    same = row_scale_slopes(torch.zeros(8, 6, 11).double() + shift, batch.labels)
    assert_close(same, torch.zeros(8).double())  # constant logits: no slope


def test_radial_identities_of_a_transformer_without_biases() -> None:
    """The head and the last norm carry the logits' scale; the residual stream's writers none."""
    lm = tiny_lm("llama")
    for module in lm.model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-30
    lm.model.double()
    rows = encode_all(lm, tiny_data().unrelated)
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    out = lm.model(**batch.inputs(), use_cache=False).logits
    cross_entropy(out, batch.labels).backward()
    radial = {
        name: float((weight.detach() * weight.grad).sum())
        for name, weight in lm.model.named_parameters()
    }
    count = int((batch.labels[:, 1:] != IGNORED).sum())
    slope = float(row_scale_slopes(out.detach(), batch.labels).sum()) / count
    assert radial["lm_head.weight"] == pytest.approx(slope, rel=1e-6)
    assert radial["model.norm.weight"] == pytest.approx(slope, rel=1e-5)
    writers = [
        value
        for name, value in radial.items()
        if name.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight"))
    ]
    assert len(writers) == 9
    # The norms' arithmetic is single precision.
    assert abs(sum(writers)) < 1e-4 * sum(map(abs, writers))
    assert abs(slope) > 1e-4


# -- the estimator ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["logit_scale", "param_scale", "grad_norm"])
def test_products_of_parts_are_unbiased_and_squares_are_not(toy: Any, kind: Kind) -> None:
    """Every batch of two rows that a population of five can give, with equal chance."""
    population = _batch(5, answer=1)
    weights, vectors = trained(toy), []
    for row in split(population, 5):
        logits = toy(row.input_ids).logits
        vector = gradient(cross_entropy(logits, row.labels), weights)
        match kind:
            case "logit_scale":
                vectors.append(row_scale_slopes(logits, row.labels).detach())
            case "param_scale":
                vectors.append(torch.dot(vector, flat(weights))[None])
            case _:
                vectors.append(vector)
    each = torch.stack(vectors)
    truth = float(each.mean(0).pow(2).sum())
    variance = float((each - each.mean(0)).pow(2).sum(-1).mean())

    def mean(unbiased: bool) -> float:
        found: list[float] = []
        for pair in itertools.product(range(5), repeat=2):
            rows = list(pair)
            batch = replace(
                population,
                input_ids=population.input_ids[rows],
                labels=population.labels[rows],
                attention_mask=population.attention_mask[rows],
            )
            penalty = Penalty(kind=kind, unbiased=unbiased, form="exact")
            found.append(_added(penalty, toy, [Place(batch)])[0])
        return sum(found) / len(found)

    assert mean(True) == pytest.approx(truth, rel=1e-10)
    assert mean(False) == pytest.approx(truth + variance / 2, rel=1e-10)
    assert variance > 0.1 * truth


@pytest.mark.parametrize(("rows", "parts"), [(3, 2), (5, 2), (5, 4), (7, 2), (4, 2), (6, 3)])
def test_parts_of_unlike_size_are_unbiased_too(toy: Any, rows: int, parts: int) -> None:
    """Every batch that a population of two rows can give."""
    population = _batch(2, answer=1)
    each = row_scale_slopes(toy(population.input_ids).logits, population.labels).detach()
    truth = float(each.mean() ** 2)
    found = []
    for chosen in itertools.product(range(2), repeat=rows):
        batch = replace(
            population,
            input_ids=population.input_ids[list(chosen)],
            labels=population.labels[list(chosen)],
            attention_mask=population.attention_mask[list(chosen)],
            ids=tuple(map(str, range(rows))),
        )
        penalty = Penalty(kind="logit_scale", parts=parts)
        found.append(_added(penalty, toy, [Place(batch)])[0])
    assert sum(found) / len(found) == pytest.approx(truth, rel=1e-10)


def _joint(toy: nn.Module, kind: Kind, batch: Batch, parts: int, unbiased: bool) -> Tensor:
    """The same estimate written out, with every graph in memory at once."""
    weights, sums = trained(toy), []
    tokens = int((batch.labels[:, 1:] != IGNORED).sum())
    for part in split(batch, parts):
        logits = toy(part.input_ids).logits
        if kind == "logit_scale":
            sums.append(row_scale_slopes(logits, part.labels).sum()[None])
            continue
        loss = cross_entropy(logits, part.labels) * (part.labels[:, 1:] != IGNORED).sum()
        found = torch.autograd.grad(loss, weights, create_graph=True)
        vector = torch.cat([piece.flatten() for piece in found])
        if kind == "param_scale":
            theta = torch.cat([weight.flatten() for weight in weights])
            vector = (vector @ theta)[None]
        sums.append(vector)
    if not unbiased:
        return (sum(sums) / tokens).pow(2).sum()  # type: ignore[union-attr]
    mean = [parts * s / tokens for s in sums]
    pairs = [a @ b for i, a in enumerate(mean) for j, b in enumerate(mean) if i != j]
    return torch.stack(pairs).sum() / (parts * (parts - 1))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("kind", ["logit_scale", "param_scale", "grad_norm"])
def test_parts_one_after_the_other_equal_one_large_batch(
    toy: Any, kind: Kind, parts: int, unbiased: bool
) -> None:
    batch = _batch(8)
    batch.labels[0, -2] = IGNORED  # parts of unlike token counts
    batch.labels[3, -1] = IGNORED
    want = _joint(toy, kind, batch, parts, unbiased)
    slope = gradient(want, trained(toy))
    for form, radius, close in (("exact", 1.0, 1e-10), ("difference", 1e-6, 1e-5)):
        penalty = Penalty(kind=kind, parts=parts, form=form, radius=radius, unbiased=unbiased)
        value, got = _added(penalty, toy, [Place(batch)], scale=3.0)
        assert value == pytest.approx(float(want.detach()), rel=1e-10)
        assert_close(got, 3.0 * slope, rtol=close, atol=close * float(slope.norm()))


# -- the gradient -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_central_differences(toy: Any, kind: Kind) -> None:
    model = _Deep(toy)
    make, places = _maker(kind), _places(*_seeds(kind))
    value, slope = _added(make(), model, places)
    assert float(slope.norm()) > 1e-4
    weights = trained(model)
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        way = torch.randn(slope.shape, generator=draw).double()
        ends = []
        for sign in (1e-4, -1e-4):
            with displaced(weights, way, sign):
                ends.append(_value(make, model, places))
        measured = (ends[0] - ends[1]) / 2e-4
        assert measured == pytest.approx(float(slope @ way), rel=1e-5, abs=1e-7)
    if kind != "interaction":  # which may be zero where the two agree
        assert value != 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["exact", "difference"])
def test_a_step_against_the_gradient_lowers_the_penalty(toy: Any, kind: Kind, form: Any) -> None:
    model = _Deep(toy)
    make, places = _maker(kind, form=form, radius=1e-4), _places(*_seeds(kind))
    before, slope = _added(make(), model, places)
    with displaced(trained(model), slope, -1e-3 / float(slope.norm())):
        after = _value(make, model, places)
    assert after < before


def test_interaction_is_silent_where_both_agree(toy: Any) -> None:
    batch = _batch(5, seed=9)
    ours = [Place(batch)]
    against = Penalty(kind="interaction", form="exact")
    value, slope = _added(against, toy, ours)  # the forget loss is minus this one
    norm = gradient(_forget(toy)(), trained(toy)).norm()
    assert value == pytest.approx(float(norm) ** 2)
    assert float(slope.norm()) > 0
    toy.zero_grad()
    same = against.add(
        toy, ours, 1.0, lambda: cross_entropy(toy(batch.input_ids).logits, batch.labels)
    )
    assert same == 0
    assert all(weight.grad is None for weight in toy.parameters())


def test_variances_over_environments_by_hand(toy: Any) -> None:
    places = [replace(place, weight=1.0) for place in _places(1, 2, 3)]
    losses, slopes = [], []
    for place in places:
        loss = cross_entropy(toy(place.batch.input_ids).logits, place.batch.labels)
        losses.append(loss.detach())
        slopes.append(gradient(loss, trained(toy)))
    risks, vectors = torch.stack(losses), torch.stack(slopes)
    assert _value(_maker("v_rex"), toy, places) == pytest.approx(float(risks.var(correction=0)))
    spread = vectors.var(0, correction=0).sum()
    assert _value(_maker("iga"), toy, places) == pytest.approx(float(spread))
    for kind in ("v_rex", "iga"):
        assert _value(_maker(kind), toy, [places[0]] * 3) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_head_gradients_are_those_of_autograd(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    rows = encode_all(lm, tiny_data().unrelated)[:6]
    pad, head = lm.tokenizer.pad_token_id, lm.model.get_output_embeddings()
    found = []
    for row in rows:
        batch = collate([row], pad, lm.device)
        states = lm.model(**batch.inputs(), output_hidden_states=True).hidden_states[-1].detach()
        loss = cross_entropy(head(states), batch.labels)
        found.append(torch.autograd.grad(loss, head.weight)[0].flatten())
    variances = torch.stack(found).var(0, correction=0)
    other = Place(collate(rows[:3], pad, lm.device))
    one = Place(collate(rows, pad, lm.device))
    want = torch.stack(found[:3]).var(0, correction=0)
    apart = ((variances - want) / 2).pow(2).mean()  # each is half the difference from the mean
    got = Penalty(kind="fishr", smoothing=0.0).add(lm.model, [one, other], 1.0, lambda: apart)
    assert got == pytest.approx(float(apart), rel=1e-3)


def test_fishr_remembers(toy: Any) -> None:
    model, places = _Deep(toy), _places(1, 2)
    penalty = Penalty(kind="fishr", smoothing=0.5)
    first, second = (_added(penalty, model, places)[0] for _ in range(2))
    # The same variances twice: the sum that is kept goes from v to v/2 + v.
    assert second == pytest.approx(1.5**2 * first)


# -- what must not matter ---------------------------------------------------------------------


def _padded(batch: Batch, pad: int, extra: int) -> Batch:
    rows = len(batch.input_ids)
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, torch.full((rows, extra), pad)], 1),
        attention_mask=torch.cat(
            [batch.attention_mask, torch.zeros(rows, extra, dtype=torch.long)], 1
        ),
        labels=torch.cat([batch.labels, torch.full((rows, extra), IGNORED)], 1),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_prompts_contribute_nothing(kind: Kind) -> None:
    lm = tiny_lm()
    pad = lm.tokenizer.pad_token_id
    rows = encode_all(lm, tiny_data().unrelated)
    batches = [collate(rows[:6], pad, lm.device), collate(rows[6:], pad, lm.device)]
    for batch in batches:
        prompts = batch.labels == IGNORED
        assert bool((prompts & batch.attention_mask.bool()).any())
    plain = [Place(batch) for batch in batches]
    wide = [Place(_padded(batch, 7, 5)) for batch in batches]
    values = [_added_to(lm.model, kind, places) for places in (plain, wide)]
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-3, abs=1e-7)
    # A difference of gradients in single precision carries a per cent of noise.
    assert_close(values[0][1], values[1][1], rtol=0.05, atol=0.05 * float(values[0][1].abs().max()))


def _added_to(model: Any, kind: Kind, places: list[Place]) -> tuple[float, Tensor]:
    model.zero_grad(set_to_none=True)
    batch = places[0].batch

    def forget() -> Tensor:
        out = model(**batch.inputs(), use_cache=False).logits
        return -cross_entropy(out, batch.labels)

    value = Penalty(kind=kind, form="exact").add(model, places, 1.0, forget)
    weights = trained(model)
    return value, flat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_weights_with_statistics_in_single(kind: Kind) -> None:
    lm, half = tiny_lm(), tiny_lm()
    half.model.bfloat16()
    lm.model.load_state_dict(half.model.state_dict())  # the same weights, rounded
    rows = encode_all(lm, tiny_data().unrelated)
    pad = lm.tokenizer.pad_token_id
    places = [Place(collate(part, pad, lm.device)) for part in (rows[:6], rows[6:])]
    full, rounded = (_added_to(model, kind, places) for model in (lm.model, half.model))
    assert rounded[1].dtype == torch.float32
    assert all(w.grad is None or w.grad.dtype == torch.bfloat16 for w in half.model.parameters())
    assert bool(torch.isfinite(rounded[1]).all())
    if kind not in ("v_rex", "fishr"):  # differences of near equals, below bfloat16's resolution
        cosine = nn.functional.cosine_similarity(full[1], rounded[1], dim=0)
        assert float(cosine) > 0.9
        assert rounded[0] == pytest.approx(full[0], rel=0.25, abs=1e-4)


DISPLACED: tuple[dict[str, Any], ...] = (
    {"attack": "noise", "size": 0.3},
    {"attack": "rounding", "bits": 2},
    {"attack": "adapter", "size": 0.5, "rank": 1},
    {"attack": "adversary", "adversary": {"type": "Finetune", "lr": 3e-2}, "steps": 2},
)


@pytest.mark.parametrize("row", DISPLACED, ids=[row["attack"] for row in DISPLACED])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_displaced_environments_is_that_of_differences(
    kind: Kind, row: dict[str, Any], make_run: MakeRun
) -> None:
    """In float64 on a transformer whose arithmetic stays there; the displacement held constant."""
    lm = tiny_lm("gpt2")
    lm.model.double().eval()
    examples = encode_all(lm, tiny_data().unrelated)
    pad, device = lm.tokenizer.pad_token_id, lm.device
    batches = {
        f"environment {index}": collate(examples[index::3], pad, device) for index in range(3)
    }
    rows = [Environment(**row), Environment(weight=0.5), Environment(**row, weight=2.0)]
    at = environments.places(lm, make_run(), rows)(batches, 0)
    weights, before = trained(lm.model), lm.digest()

    def forget() -> Tensor:
        batch = batches["environment 1"]
        return -cross_entropy(lm.model(**batch.inputs(), use_cache=False).logits, batch.labels)

    def value() -> float:
        lm.model.zero_grad(set_to_none=True)
        return Penalty(kind=kind, smoothing=0.0, form="exact").add(lm.model, at, 1.0, forget)

    value()
    slope = flat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])
    way = torch.randn(slope.shape, generator=torch.Generator().manual_seed(1)).double()
    way = way / way.norm() + slope / slope.norm()
    ends = []
    for step in (1e-4, -1e-4):
        with displaced(weights, way, step):
            ends.append(value())
    assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(float(slope @ way), rel=1e-4)
    assert lm.digest() == before


def test_gradients_elsewhere_count_as_gradients_here(toy: Any) -> None:
    """A displacement is held constant: the gradient found there is added here, weights restored."""
    weights, batch = trained(toy), _batch()
    vector = torch.ones_like(flat(weights))
    before = [weight.detach().clone() for weight in weights]

    def moved(model: nn.Module) -> AbstractContextManager[None]:
        return displaced(trained(model), vector, 0.1)

    got = _added(Penalty(kind="grad_norm", form="exact"), toy, [Place(batch, moved)])
    assert all(torch.equal(now, was) for now, was in zip(weights, before, strict=True))
    with displaced(weights, vector, 0.1):
        want = _added(Penalty(kind="grad_norm", form="exact"), toy, [Place(batch)])
    assert got[0] == want[0]
    assert torch.equal(got[1], want[1])


def test_split_is_by_rows_and_loses_none() -> None:
    batch = _batch(7)
    parts = split(batch, 3)
    assert [len(part.input_ids) for part in parts] == [3, 2, 2]
    assert sorted(name for part in parts for name in part.ids) == sorted(batch.ids)
    assert sum(part.tokens for part in parts) == batch.tokens
    assert torch.equal(parts[1].input_ids, batch.input_ids[1::3])
    assert len(split(batch, 9)) == 7
