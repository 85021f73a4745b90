"""TAR: nothing at no attacker, the sum along an attacker's way, and weights that come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added, double
from titer.attacks.finetune import Finetune
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.tar import TAR, shares
from titer.train.batches import collate, encode_all
from titer.train.grads import flat, gradient, trained
from titer.train.harden import halves, logits
from titer.train.objectives import cross_entropy
from titer.train.policy import entropy

MakeRun = Callable[..., Run]
PLAIN = TAR(first=0.0, inner=6, every=2, rates=(1e-2,), late=0.5, batch_size=4, lr=1e-3)


def test_the_weights_of_the_way() -> None:
    assert sum(shares(64, 4, "uniform").values()) == pytest.approx(1.0)
    assert sum(shares(64, 4, "exponential").values()) == pytest.approx(1.0)
    assert sum(shares(64, 4, "code").values()) == pytest.approx(4.44, abs=0.01)
    assert list(shares(6, 2, "uniform")) == [1, 3, 5]


def test_without_an_attacker_it_only_keeps(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(replace(PLAIN, inner=0), lm, make_run(2))
    got, batch = added(seen), seen.bundle["retain"]
    assert set(seen.bundle.parts) == {"retain"}
    # At the start no state has moved, and a norm at nothing has no slope.
    loss = cross_entropy(logits(seen.lm.model, batch), batch.labels)
    assert_close(got, gradient(loss, trained(seen.lm.model)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tamper", ["entropy", "dpo"])
def test_the_buffer_is_the_sum_of_gradients_along_the_way(
    tamper: Any, make_run: MakeRun, watch: Any
) -> None:
    method, run, lm = replace(PLAIN, tamper=tamper, tamper_weight=3.0), make_run(2), double()
    seen = watch(method, lm, run)
    before = seen.lm.digest()
    got = added(seen)
    assert seen.lm.digest() == before, "the weights did not come back"
    model, bundle, weights = seen.lm.model, seen.bundle, trained(seen.lm.model)
    batch = bundle["retain"]
    want = gradient(cross_entropy(logits(model, batch), batch.labels), weights)
    walker = double()
    walker.model.load_state_dict(model.state_dict())
    path = trained(walker.model)
    stepper = torch.optim.AdamW(path, lr=1e-2, weight_decay=0.0)
    for k in range(6):
        batch = bundle[f"attack {k}"]
        stepper.zero_grad()
        cross_entropy(logits(walker.model, batch), batch.labels).backward()
        stepper.step()
        if k % 2:
            want = want + gradient(3.0 * _resists(tamper, lm, walker, bundle) / 3, path)
    assert_close(got, want, rtol=1e-4, atol=1e-6)


def _resists(tamper: str, start: LM, walker: LM, bundle: Any) -> torch.Tensor:
    held = bundle["held"]
    if tamper == "entropy":
        spread = entropy(logits(walker.model, held))
        return -spread[held.attention_mask == 1].mean()

    def sums(role: str) -> torch.Tensor:
        batch = bundle[role]
        found = [
            torch.log_softmax(logits(lm.model, batch)[:, :-1], -1)
            .gather(-1, batch.labels[:, 1:, None].clamp(min=0))[..., 0]
            .mul(batch.labels[:, 1:] >= 0)
            .sum(-1)
            for lm in (walker, start)
        ]
        return found[0] - found[1]

    return -torch.nn.functional.logsigmoid(0.1 * (sums("declined") - sums("held"))).mean()


def test_an_attacker_of_no_rate_leaves_the_loss_here(make_run: MakeRun, watch: Any) -> None:
    lm = double()
    seen = watch(replace(PLAIN, inner=1, every=1, rates=(0.0,), late=0.0), lm, make_run(2))
    got, weights, bundle = added(seen), trained(seen.lm.model), seen.bundle
    kept = cross_entropy(logits(seen.lm.model, bundle["retain"]), bundle["retain"].labels)
    want = gradient(kept + 4.0 * _resists("entropy", lm, seen.lm, bundle), weights)
    assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_attackers_are_drawn_as_said(make_run: MakeRun) -> None:
    method, run = TAR(rates=(1.0, 2.0), late=1 / 3), make_run(2)
    drawn = [method.attacker(run, step) for step in range(3000)]
    assert drawn == [method.attacker(run, step) for step in range(3000)]
    assert abs(Counter(one.lr for one in drawn)[1.0] / 3000 - 0.5) < 0.04
    late = [one.switch for one in drawn if one.switch]
    assert abs(len(late) / 3000 - 1 / 3) < 0.04
    assert abs(sum(late) / len(late) / 64 - 2 / 3) < 0.02  # the mean of Beta(6, 3)


def test_what_is_held_back_is_about_others(lm: LM, make_run: MakeRun, watch: Any) -> None:
    bundle = watch(PLAIN, lm, make_run(2)).bundle
    held = {name for name in bundle["held"].ids}
    met = {name for k in range(6) for name in bundle[f"attack {k}"].ids}
    assert not held & met
    with pytest.raises(BadInput, match="two or more"):
        halves([Example(id="one", prompt="a", answer="b", entity="x")] * 3)


def test_the_passes_are_charged(lm: LM, make_run: MakeRun) -> None:
    run = make_run(1)
    replace(PLAIN, batch_size=99, attack_batch=99, late=0.0)(lm, run)
    learned, held = halves(run.data.harmful)

    def tokens(examples: Any) -> int:
        return sum(len(lm.encode(one.prompt, one.answer).ids) for one in examples)

    own = 6 * tokens(learned) + tokens(held) + tokens(run.data.retain)
    size = lm.parameters_in_matmuls()
    assert run.spent.tokens == own
    more = 6.0 * 2 * tokens(held) + 2.0 * tokens(run.data.retain)
    assert run.spent.flops == pytest.approx(size * (6.0 * own + more))


@pytest.mark.slow
def test_along_an_attack_what_resists_stays_up(lm: LM, make_run: MakeRun) -> None:
    """Its own diagnostic: the entropy that a fresh attacker leaves on what was held back."""
    knowing = Finetune(lr=1e-2)(lm, make_run(20))
    trained_on = replace(PLAIN, lr=3e-3, optimiser="adamw", tamper_weight=4.0, batch_size=14)
    out = trained_on(knowing, make_run(25))

    def left(model: LM) -> float:
        run = make_run(6)
        learned, held = halves(run.data.harmful)
        data = replace(run.data, harmful=learned)
        tampered = Finetune(lr=1e-2)(model, replace(run, data=data))
        batch = collate(encode_all(lm, held), lm.tokenizer.pad_token_id, lm.device)
        with torch.no_grad():
            return float(entropy(logits(tampered.model, batch))[batch.attention_mask == 1].mean())

    assert left(out) > left(knowing) + 0.1
    assert not flat(list(out.model.parameters())).isnan().any()
