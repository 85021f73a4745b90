"""Budgets hold after projection, exactly and with exact gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.hypernet.made import EDITS, pairs, stir
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.hypernet import Ablation, ActivationEdit, LowRank, SoftPrompt, Steering, attacker
from titer.hypernet.adversary import effective_rank, patch_norm
from titer.hypernet.budgets import pair_norm, shrink
from titer.hypernet.families import edit_of
from titer.hypernet.sites import Site, matrix

BATCH = pairs(tiny_lm())["wanted"]
SITE = Site(path="a", kind="a", depth=0.0, reads=6, writes=5)


def factors(*lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return tuple(  # type: ignore[return-value]
        torch.randn(*lead, 3, width, generator=draw, dtype=torch.float64) for width in (6, 5)
    )


@pytest.mark.parametrize(("kind", "order"), [("spectral", 2), ("frobenius", "fro")])
def test_the_norm_of_a_product_and_its_gradient(kind: Any, order: Any) -> None:
    u, v = factors(2, 4)
    assert_close(pair_norm(u, v, kind), torch.linalg.matrix_norm(v.mT @ u, order))
    inputs = [u[0, 0].clone().requires_grad_(), v[0, 0].clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: pair_norm(a, b, kind), inputs)


@pytest.mark.parametrize("kind", ["spectral", "frobenius"])
def test_a_product_of_nothing_has_norm_zero_and_a_finite_gradient(kind: Any) -> None:
    u, v = factors()
    v = torch.zeros_like(v).requires_grad_()
    size = pair_norm(u, v, kind)
    (grad,) = torch.autograd.grad(v.sum() * shrink(size, torch.tensor(0.1)) + size, v)
    assert float(size.detach()) == pytest.approx(0, abs=1e-150)
    assert bool(torch.isfinite(grad).all())


def test_shrinking_is_exact_and_silent_inside() -> None:
    size = torch.tensor([0.0, 0.5, 2.0, 5.0], requires_grad=True)
    limit = torch.tensor([1.0, 1.0, 1.0, torch.inf])
    factor = shrink(size, limit)
    assert_close(factor, torch.tensor([1.0, 1.0, 0.5, 1.0]))
    (grad,) = torch.autograd.grad(factor.sum(), size)
    assert_close(grad, torch.tensor([0.0, 0.0, -0.25, 0.0]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
@pytest.mark.parametrize("conditioning", ["universal", "batch", "sample"])
def test_low_rank_updates_stay_inside(norm: Any, conditioning: Any, architecture: Any) -> None:
    lm = tiny_lm(architecture)
    batch = pairs(lm)["wanted"]
    edit = LowRank(rank=3, budget=0.07, norm=norm)
    adversary = attacker(lm, edit, batch, width=8, conditioning=conditioning)
    stir(adversary, scale=30.0)
    order: Any = 2 if norm == "spectral" else "fro"
    for site, own in adversary.patch(lm.model, batch).items():
        weight = matrix(lm.model.get_submodule(site.path))
        assert weight is not None
        share = torch.linalg.matrix_norm(
            (own["v"].mT @ own["u"]).detach(), order
        ) / torch.linalg.matrix_norm(weight.detach(), order)
        assert_close(share, torch.full_like(share, 0.07), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "edit", [Steering(budget=0.1), Steering(budget=0.1, where="embedding"), SoftPrompt(budget=0.1)]
)
def test_vectors_are_bounded_by_the_median_activation(edit: Any, lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    adversary = attacker(lm, edit, batch, width=8)
    stir(adversary, scale=100.0)
    states = lm.model(**batch.inputs(), output_hidden_states=True).hidden_states
    # The last hidden state has passed the final norm; take the block's own output there.
    real = batch.attention_mask.bool()
    for place, (site, own) in enumerate(adversary.patch(lm.model, batch).items()):
        if site.kind == "block" and place == 3:
            continue
        depth = place + 1 if site.kind == "block" else 0
        median = states[depth][real].norm(dim=-1).median()
        (vectors,) = own.values()
        longest = vectors.norm(dim=-1)
        assert_close(longest, 0.1 * median.expand_as(longest), rtol=1e-4, atol=0)


def test_activation_edits_and_ablations_are_bounded(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    for edit in (ActivationEdit(rank=2, budget=0.1), Ablation(directions=2)):
        adversary = attacker(lm, edit, batch, width=8)
        stir(adversary, scale=10.0)
        for own in adversary.patch(lm.model, batch).values():
            basis = own["q"] if "q" in own else own["r"]
            assert_close(basis @ basis.mT, torch.eye(2)[None], rtol=0, atol=1e-5)
            held = own["alpha"] if "q" in own else own["d"].norm(dim=-1) / 0.1
            assert float(held.detach().abs().max()) <= 1 + 1e-5


def test_no_budget_is_no_bound(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    for name in ("weights", "steering", "activations", "soft-prompt"):
        edit = edit_of(name, rank=2, budget=None)  # type: ignore[arg-type]
        adversary = attacker(lm, edit, batch, width=8)
        before = patch_norm(adversary.patch(lm.model, batch))
        stir(adversary, scale=100.0)
        assert patch_norm(adversary.patch(lm.model, batch)) > 10 * before


@pytest.mark.parametrize("name", EDITS)
def test_slots_fit_their_site(name: str, lm: LM) -> None:
    for site in EDITS[name].sites(lm.model):
        assert {s.width for s in EDITS[name].slots(site).values()} <= {site.reads, site.writes, 1}


def test_effective_rank_counts_unlike_directions() -> None:
    eye = torch.eye(6)[:3]
    same = eye[:1].expand(3, -1)
    wide = torch.eye(5)[:3]
    assert effective_rank({SITE: {"u": eye[None], "v": wide[None]}}) == pytest.approx(3)
    assert effective_rank({SITE: {"u": same[None], "v": wide[None]}}) == pytest.approx(1)
    assert effective_rank({SITE: {"u": eye[None], "v": 0 * wide[None]}}) == 0
    assert patch_norm({SITE: {"u": eye[None], "v": wide[None]}}) == pytest.approx(6**0.5)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: LowRank(budget=0.0), "budget=0.0"),
        (lambda: Steering(budget=-1.0), "budget=-1.0"),
        (lambda: LowRank(rank=0), "rank=0"),
        (lambda: SoftPrompt(tokens=0), "tokens=0"),
        (lambda: Ablation(directions=0), "directions=0"),
        (lambda: attacker(tiny_lm(), LowRank(rank=30), BATCH), "rank=30 exceeds"),
        (lambda: attacker(tiny_lm(), LowRank(), BATCH, width=0), "width=0"),
    ],
)
def test_wrong_settings_are_refused(made: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        made()
