"""Vaccine and T-Vaccine: the length of the push, what it does, and which blocks are touched."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added, agrees, double
from tests.defences.test_booster import harm
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.t_vaccine import TVaccine, chosen
from titer.defences.vaccine import Vaccine
from titer.nn.taps import pushed, sites, tapped
from titer.train.latent import slopes, steepest

MakeRun = Callable[..., Run]


@pytest.mark.parametrize("site", ["block", "attention", "mlp"])
def test_the_push_is_as_long_as_it_says_and_raises_the_loss(
    site: Any, make_run: MakeRun, watch: Any
) -> None:
    seen = watch(Vaccine(batch_size=4, parameters="full"), double(), make_run(2))
    loss, modules = harm(seen, "safe"), tapped(seen.lm.model, sites(seen.lm.model, site))
    found = slopes(modules, loss)
    size = math.sqrt(sum(float(one.pow(2).sum()) for one in found))
    pushes = steepest(modules, loss, 1e-4)
    assert len(pushes) == 4
    assert math.sqrt(sum(float(one.pow(2).sum()) for one in pushes)) == pytest.approx(1e-4)
    before = float(loss().detach())
    with pushed(modules, pushes):
        after = float(loss().detach())
    assert after - before == pytest.approx(1e-4 * size, rel=0.02)
    assert float(loss().detach()) == before  # nothing stays attached


def test_its_gradient_is_that_of_the_pushed_loss(make_run: MakeRun, watch: Any) -> None:
    method = Vaccine(rho=0.5, batch_size=4, parameters="full", retain_weight=0.5)
    seen = watch(method, double(), make_run(2))
    modules, safe = tapped(seen.lm.model, [""] * 4), harm(seen, "safe")
    kept, pushes = harm(seen, "retain"), steepest(modules, safe, 0.5)

    def loss() -> torch.Tensor:
        with pushed(modules, pushes):
            found = safe()
        return found + 0.5 * kept()

    agrees(seen, loss)


def test_on_all_blocks_t_vaccine_is_vaccine(lm: LM, make_run: MakeRun) -> None:
    both = [
        kind(lr=1e-3, rho=1.0, batch_size=10, **more)(lm, make_run(3)).digest()
        for kind, more in ((Vaccine, {}), (TVaccine, {"count": 99, "refresh": 9999}))
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_only_the_chosen_blocks_train(parameters: Any, lm: LM, make_run: MakeRun) -> None:
    out = TVaccine(count=2, parameters=parameters, weight_decay=0.0)(lm, make_run(2))
    now = dict(out.model.named_parameters())
    moved = [name for name, was in lm.model.named_parameters() if not was.equal(now[name])]
    assert len({name.split("layers.")[1].split(".")[0] for name in moved}) == 2


def test_frozen_blocks_have_no_gradient(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(TVaccine(count=1, parameters="full"), lm, make_run(2))
    names = list(seen.gradient())
    assert len({name.split("layers.")[1].split(".")[0] for name in names}) == 1


def test_blocks_are_drawn_by_weight() -> None:
    weights, rng = [1.0, 2.0, 3.0, 4.0], random.Random(0)
    drawn = Counter(chosen(weights, 1, rng)[0] for _ in range(10_000))
    for place, weight in enumerate(weights):
        share = weight / 10
        assert abs(drawn[place] / 10_000 - share) < 4 * math.sqrt(share * (1 - share) / 10_000)
    assert chosen(weights, 9, rng) == [0, 1, 2, 3]
    assert len(set(chosen(weights, 3, rng))) == 3


def test_the_probe_is_asked_now_and_then_and_charged(lm: LM, make_run: MakeRun) -> None:
    often, seldom = make_run(4), make_run(4)
    TVaccine(count=2, refresh=1, hold=1)(lm, often)
    TVaccine(count=2, refresh=4, hold=1)(lm, seldom)
    row = len(lm.encode(often.data.harmful[0].prompt, often.data.harmful[0].answer).ids)
    assert often.spent.tokens - seldom.spent.tokens == pytest.approx(3 * row, abs=12)


def test_a_push_of_no_length_is_plain_training(lm: LM, make_run: MakeRun, watch: Any) -> None:
    with_none = watch(Vaccine(rho=0.0, parameters="full"), lm, make_run(2))
    got = added(with_none)
    assert_close(got, added(watch(Vaccine(rho=1e-9, parameters="full"), lm, make_run(2))))
