"""Rank removal: the basis in closed form, and what is left of a planted refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.attacks.remove_rank import PRESETS, RemoveRank, safeguard_basis
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.edits import linears

from .planted import answers, planted, refuses

MakeRun = Callable[..., Run]


def test_the_basis_in_closed_form() -> None:
    use = torch.diag(torch.tensor([90.0, 9.0, 1.0, 0.0]))
    guard = torch.diag(torch.tensor([50.0, 5.0, 2.0, 7.0]))
    axes = torch.eye(4, dtype=torch.float64)
    # 0.9 protects the first axis, 0.95 the first two; of the others the strongest come first.
    assert_close(safeguard_basis(guard, use, 0.9, 2).abs(), axes[[3, 1]])
    assert_close(safeguard_basis(guard, use, 0.95, 2).abs(), axes[[3, 2]])
    assert_close(safeguard_basis(guard, use, 0.0, 1).abs(), axes[[0]])
    assert len(safeguard_basis(guard, use, 0.95, 9)) == 2
    assert len(safeguard_basis(guard, use, 1.0, 9)) <= 1


def test_it_leaves_what_is_protected_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    mixes = [torch.randn(12, rank, generator=draw).double() for rank in (3, 12)]
    use, guard = (mix @ mix.T for mix in mixes)
    basis = safeguard_basis(guard, use, 0.999999, 4)
    assert_close(basis @ basis.T, torch.eye(4).double())
    assert_close(basis @ use, torch.zeros(4, 12).double(), rtol=0, atol=1e-4)


def test_a_planted_refusal_loses_its_rank(data: Data, make_run: MakeRun) -> None:
    lm, _ = planted()
    run = make_run(3)
    out = RemoveRank()(lm, run)
    assert run.spent.steps == 3
    assert refuses(out, data.harmful) < 0.3
    assert answers(out, data.retain) > 0.7


def test_so_many_ranks_go_from_every_matrix(lm: LM, make_run: MakeRun) -> None:
    out = RemoveRank(ranks=(2,), keep=0.5, max_kl=100.0)(lm, make_run(1))
    for was, now in zip(linears(lm.model), linears(out.model), strict=True):
        gone = torch.linalg.svdvals(was.weight_OI - now.weight_OI)
        assert int((gone > 1e-5).sum()) == 2


def test_no_rank_is_the_identity(lm: LM, make_run: MakeRun) -> None:
    assert RemoveRank(ranks=(0,))(lm, make_run(1)).digest() == lm.digest()


@pytest.mark.parametrize("settings", [{"ranks": ()}, {"ranks": (-1,)}, {"keep": 1.5}, {"held": 0}])
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        RemoveRank(**settings)


def test_the_preset_is_its_row() -> None:
    assert RemoveRank(**PRESETS["W02"].fields).ranks == (1, 5, 20)
    assert PRESETS["W02"].steps == (3, 3)
