"""NPO on a model: its start, its damping, its reductions and its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.finetune import Finetune
from titer.conformance import tiny_lm
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.grad_diff import GradDiff
from titer.defences.npo import NPO
from titer.train.batches import collate, encode_all
from titer.train.objectives import row_losses

MakeRun = Callable[..., Run]


def _sums(lm: LM, examples: Any) -> torch.Tensor:
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return row_losses(lm.model(**batch.inputs()).logits, batch.labels, "sum")


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_its_first_gradient_is_that_of_the_likelihood(
    lm: LM, make_run: MakeRun, watch: Any, beta: float, reduction: Any
) -> None:
    method = NPO(beta=beta, reduction=reduction, retain_weight=0.0)
    seen = watch(method, lm, make_run(1))
    pushed, forget = seen.gradient(), seen.bundle["forget"]
    seen.lm.model.zero_grad()
    logits = seen.lm.model(**forget.inputs()).logits
    (-row_losses(logits, forget.labels, reduction).mean()).backward()
    for name, weight in seen.lm.model.named_parameters():
        assert_close(pushed[name], weight.grad, rtol=1e-4, atol=1e-6)


def test_it_forgets_more_gently_than_it_could(lm: LM, data: Data, make_run: MakeRun) -> None:
    knowing = Finetune(lr=1e-2)(lm, make_run(30))
    out = NPO(lr=5e-3)(knowing, make_run(40))
    risen = _sums(out, data.harmful) - _sums(knowing, data.harmful)
    assert float(risen.min()) > 5.0
    assert float(_sums(out, data.retain).mean()) < float(_sums(knowing, data.retain).mean())


def test_the_push_fades_once_the_likelihood_is_gone(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(NPO(beta=1.0, retain_weight=0.0), lm, make_run(1))
    forget = seen.bundle["forget"]

    def share() -> float:
        """NPO's gradient as a share of plain ascent's."""
        pushed = torch.cat([part.flatten() for part in seen.gradient().values()]).norm()
        seen.lm.model.zero_grad()
        logits = seen.lm.model(**forget.inputs()).logits
        row_losses(logits, forget.labels, "sum").mean().backward()
        plain = torch.cat([w.grad.flatten() for w in seen.lm.model.parameters()]).norm()
        return float(pushed / plain)

    assert share() == pytest.approx(1.0, rel=1e-4)
    gone = GradDiff(lr=1e-2, retain_weight=0.0)(lm, make_run(15))
    seen.lm.model.load_state_dict(gone.model.state_dict())
    assert share() < 1e-3


@pytest.mark.parametrize(
    "other",
    [
        {"beta": 1.0},
        {"reduction": "mean"},
        {"retain": "kl"},
        {"forget_weight": 2.0},
        {"retain_weight": 0.0},
    ],
)
def test_every_knob_of_the_loss_is_alive(lm: LM, make_run: MakeRun, other: Any) -> None:
    base = NPO(lr=1e-3)(lm, make_run(3))
    assert NPO(**{"lr": 1e-3, **other})(lm, make_run(3)).digest() != base.digest()


@pytest.mark.parametrize("retain", ["ce", "kl"])
def test_the_frozen_forwards_are_charged(lm: LM, make_run: MakeRun, retain: Any) -> None:
    run = make_run(2)
    NPO(retain=retain, batch_size=99)(lm, run)
    tokens = {
        role: collate(encode_all(lm, examples), 1, lm.device).tokens
        for role, examples in (("forget", run.data.harmful), ("retain", run.data.retain))
    }
    frozen = tokens["forget"] + (tokens["retain"] if retain == "kl" else 0)
    size = lm.parameters_in_matmuls()
    assert run.spent.tokens == 2 * sum(tokens.values())
    assert run.spent.flops == size * (6.0 * run.spent.tokens + 2.0 * 2 * frozen)


def test_the_reference_has_no_dropout(make_run: MakeRun, watch: Any) -> None:
    lm = tiny_lm("gpt2")
    seen = watch(NPO(retain_weight=0.0), LM(lm.model.train(), lm.tokenizer), make_run(1))
    seen.lm.model.eval()
    losses = {seen.grad(seen.lm.model, seen.bundle)["loss"] for _ in range(3)}
    # At the start, without dropout anywhere, the loss is (2/β) ln 2.
    assert list(losses) == pytest.approx([20 * 0.693147], rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(beta: float) -> None:
    with pytest.raises(BadInput, match="beta"):
        NPO(beta=beta)
