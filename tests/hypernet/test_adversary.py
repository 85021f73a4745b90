"""Gradients reach the whole network, and what it reads decides what it writes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.hypernet.made import EDITS, FROM_ZERO, batch_of, double, pairs, stir, tensors
from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.lm import LM
from titer.hypernet import LowRank, attacker
from titer.hypernet.context import prompts
from titer.hypernet.network import rms
from titer.hypernet.objectives import attack_loss, likelihood, preferring
from titer.train.batches import IGNORED, Batch

CONDITIONS = ["universal", "batch", "sample"]


def _loss(adversary: Any, lm: LM, bundle: Any) -> torch.Tensor:
    return attack_loss(adversary, lm.model, bundle, preferring(beta=0.1), coherent=0.5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("conditioning", CONDITIONS)
def test_every_parameter_has_a_gradient(name: str, conditioning: Any, architecture: Any) -> None:
    """At the zero start the zero matrices have one, so from the second step all have."""
    lm = tiny_lm(architecture)
    bundle = pairs(lm)
    adversary = attacker(lm, EDITS[name], bundle["wanted"], width=8, conditioning=conditioning)
    optimiser = torch.optim.AdamW(adversary.weights, lr=1e-3)
    zero = {
        key
        for key, weight in adversary.network.named_parameters()
        if key.startswith("heads") and not weight.any()
    }
    for step in range(2):
        optimiser.zero_grad()
        _loss(adversary, lm, bundle).backward()
        named = dict(adversary.network.named_parameters())
        assert all(w.grad is not None and w.grad.isfinite().all() for w in named.values())
        alive = {key for key, w in named.items() if w.grad is not None and w.grad.any()}
        if step == 0 and name in FROM_ZERO:
            assert alive >= zero
            assert zero
        else:
            assert alive == set(named)
        optimiser.step()


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("conditioning", CONDITIONS)
def test_gradients_are_those_of_finite_differences(name: str, conditioning: Any) -> None:
    lm = double("gpt2")  # the one of the three whose norms stay in double precision
    bundle = pairs(lm, 3)
    adversary = attacker(lm, EDITS[name], bundle["wanted"], width=8, conditioning=conditioning)
    stir(adversary, scale=0.3)
    weights = adversary.weights
    grads = torch.autograd.grad(_loss(adversary, lm, bundle), weights)
    draw = torch.Generator().manual_seed(3)
    along = [torch.randn(w.shape, generator=draw, dtype=w.dtype) for w in weights]

    def shifted(by: float) -> float:
        with torch.no_grad():
            for weight, way in zip(weights, along, strict=True):
                weight += by * way
            value = float(_loss(adversary, lm, bundle))
            for weight, way in zip(weights, along, strict=True):
                weight -= by * way
        return value

    slope = sum(float((g * way).sum()) for g, way in zip(grads, along, strict=True))
    by = 1e-6
    assert slope == pytest.approx((shifted(by) - shifted(-by)) / (2 * by), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", EDITS)
def test_its_loss_falls_while_the_model_stays(name: str, lm: LM) -> None:
    bundle, digest = pairs(lm), lm.digest()
    adversary = attacker(lm, EDITS[name], bundle["wanted"], conditioning="sample")
    optimiser = torch.optim.AdamW(adversary.weights, lr=1e-2)
    losses: list[float] = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = attack_loss(adversary, lm.model, bundle, likelihood)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - (1e-3 if name.startswith("ablation") else 0.05)
    assert lm.digest() == digest


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("reads", ["activations", "embedding"])
def test_rows_are_independent_padding_and_answers_are_unseen(name: str, reads: Any) -> None:
    lm = double()
    batch = batch_of(lm, tiny_data().harmful[:4])
    adversary = attacker(
        lm, EDITS[name], batch, width=8, conditioning="sample", reads=reads, seed=2
    )
    stir(adversary)
    patches = tensors(adversary.patch(lm.model, batch))
    assert all(len(tensor) == 4 for tensor in patches)
    assert any(not torch.allclose(tensor[0], tensor[1]) for tensor in patches)

    order = torch.tensor([2, 0, 3, 1])
    turned = replace(
        batch,
        input_ids=batch.input_ids[order],
        attention_mask=batch.attention_mask[order],
        labels=batch.labels[order],
    )
    for was, now in zip(patches, tensors(adversary.patch(lm.model, turned)), strict=True):
        assert_close(now, was[order])

    wider = replace(
        batch,
        input_ids=torch.nn.functional.pad(batch.input_ids, (0, 5), value=7),
        attention_mask=torch.nn.functional.pad(batch.attention_mask, (0, 5)),
        labels=torch.nn.functional.pad(batch.labels, (0, 5), value=IGNORED),
    )
    answered = batch.labels != IGNORED
    other = replace(batch, input_ids=torch.where(answered, 11, batch.input_ids))
    for same in (wider, other):
        for was, now in zip(patches, tensors(adversary.patch(lm.model, same)), strict=True):
            assert_close(now, was)


def test_prompts_end_where_answers_begin(lm: LM) -> None:
    batch = batch_of(lm, tiny_data().harmful[:3])
    asked = prompts(batch)
    lengths = [len(lm.prompt_ids(example.prompt)) for example in tiny_data().harmful[:3]]
    assert asked.attention_mask.sum(-1).tolist() == lengths
    assert asked.input_ids.shape[1] == max(lengths)
    assert asked.tokens == sum(lengths)


def test_conditioning_decides_how_many_patches_and_what_they_see(lm: LM) -> None:
    one, two = (batch_of(lm, tiny_data().harmful[start : start + 3]) for start in (0, 3))
    for conditioning, rows in (("universal", 1), ("batch", 1), ("sample", 3)):
        adversary = attacker(lm, LowRank(rank=2), one, width=8, conditioning=conditioning)  # type: ignore[arg-type]
        stir(adversary)
        first, second = (tensors(adversary.patch(lm.model, batch)) for batch in (one, two))
        assert {len(tensor) for tensor in first} == {rows}
        same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert same == (conditioning == "universal")


def test_through_decides_whether_gradients_pass_the_context(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    for through in (False, True):
        adversary = attacker(
            lm, LowRank(rank=2), batch, width=8, conditioning="batch", through=through
        )
        stir(adversary)
        total = torch.stack([t.sum() for t in tensors(adversary.patch(lm.model, batch))]).sum()
        weights = list(lm.model.parameters())
        grads = torch.autograd.grad(total, weights, allow_unused=True)
        assert any(grad is not None and bool(grad.any()) for grad in grads) == through


def test_the_size_of_the_network_knows_nothing_of_depth() -> None:
    sizes: set[int] = set()
    for layers in (2, 6):
        lm = tiny_lm()
        config = type(lm.model.config)(**{**lm.model.config.to_dict(), "num_hidden_layers": layers})
        deep = LM(type(lm.model)(config), lm.tokenizer)
        adversary = attacker(deep, LowRank(rank=2), pairs(deep)["wanted"], conditioning="batch")
        sizes.add(sum(weight.numel() for weight in adversary.weights))
        assert len(adversary.network.sites) == 7 * layers
    assert len(sizes) == 1


def test_a_larger_activation_is_no_lever(lm: LM) -> None:
    """Inputs are RMS-normalised: ten times the features write the same patch."""
    batch: Batch = pairs(lm)["wanted"]
    adversary = attacker(lm, LowRank(rank=2), batch, width=8, conditioning="batch")
    stir(adversary)
    asked = prompts(batch)
    features = adversary.context(lm.model, adversary.network.sites, asked)
    for scale in (1e-2, 10.0):
        small = adversary.network([x.detach() for x in features], asked.attention_mask)
        large = adversary.network([scale * x.detach() for x in features], asked.attention_mask)
        for was, now in zip(small, large, strict=True):
            for name in was:
                assert_close(now[name], was[name], rtol=2e-3, atol=1e-4)


def test_the_seed_decides_the_network_and_global_chance_is_left_alone(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    before = torch.get_rng_state()
    one, two, other = (attacker(lm, LowRank(rank=2), batch, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.weights, two.weights, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


def test_a_network_of_its_own_choosing_is_as_wide_as_a_tenth_allows(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    whole = sum(weight.numel() for weight in lm.model.parameters())

    def share(width: int | None) -> tuple[int, float]:
        made = attacker(lm, LowRank(rank=2), batch, width=width, conditioning="batch")
        size = made.network.kind.weight.shape[1]
        return size, sum(weight.numel() for weight in made.weights) / whole

    size, own = share(None)
    assert size == 8 or own <= 0.1
    assert share(2 * size)[1] > 0.1
    big = LM(type(lm.model)(_wider(lm)), lm.tokenizer)
    made = attacker(big, LowRank(rank=2), batch, width=None, conditioning="batch")
    most = sum(weight.numel() for weight in big.model.parameters())
    assert made.network.kind.weight.shape[1] > size
    assert sum(weight.numel() for weight in made.weights) <= 0.1 * most


def _wider(lm: LM) -> Any:
    config = copy.deepcopy(lm.model.config)
    config.hidden_size, config.intermediate_size = 8 * config.hidden_size, 512
    config.head_dim = config.hidden_size // config.num_attention_heads
    return config


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("reads", ["activations", "embedding"])
def test_pooling_is_attention_over_projected_features(architecture: Any, reads: Any) -> None:
    """Site by site and token by token, with nothing shared: the slow way to the same numbers."""
    lm = double(architecture)
    batch = pairs(lm)["wanted"]
    adversary = attacker(lm, LowRank(rank=2), batch, reads=reads, conditioning="sample", width=8)
    stir(adversary)
    network, asked = adversary.network, prompts(batch)
    features = adversary.context(lm.model, network.sites, asked)
    code_SH = rms(network.kind(network.ranks) + network.depth(network.waves))
    found = network._pool(features, asked.attention_mask, code_SH)
    assert network.query is not None
    for site, x_BTD in enumerate(features):
        enter, query_H = network.enter[str(x_BTD.shape[-1])], network.query(code_SH[site])
        for row, mask_T in enumerate(asked.attention_mask.bool()):
            k_TH = enter(rms(x_BTD[row, mask_T]))
            share_T = (k_TH @ query_H / 8**0.5).softmax(0)
            torch.testing.assert_close(found[row, site], rms(share_T @ k_TH))
