"""LoX: what it adds, and the rank of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.testing import assert_close

from titer.core.lm import LM
from titer.core.method import Run
from titer.defences.lox import LoX, extrapolated
from titer.defences.npo import NPO

MakeRun = Callable[..., Run]


def test_what_is_added_has_the_rank_and_is_the_leading_part() -> None:
    draw = torch.Generator().manual_seed(0)
    start, aligned = (torch.randn(8, 6, generator=draw, dtype=torch.float64) for _ in range(2))
    more = extrapolated(aligned, start, 2, 1.5) - aligned
    assert int(torch.linalg.matrix_rank(more)) == 2
    u, _, _ = torch.linalg.svd(aligned - start)
    assert_close(more, 1.5 * u[:, :2] @ u[:, :2].T @ (aligned - start))
    assert_close(extrapolated(aligned, start, 0, 0.5), 1.5 * (aligned - start) + start)
    assert extrapolated(aligned, start, 2, 0.0).equal(aligned)


def test_at_no_factor_it_is_its_base_to_the_bit(lm: LM, make_run: MakeRun) -> None:
    base = NPO(lr=1e-2)
    plain = base(lm, make_run(3))
    assert LoX(base=base, factor=0.0)(lm, make_run(3)).digest() == plain.digest()
    out = LoX(base=base, rank=2)(lm, make_run(3))
    was, on, now = (dict(m.model.named_parameters()) for m in (lm, plain, out))
    for name, weight in now.items():
        more = (weight - on[name]).detach()
        if weight.dim() < 2:
            assert float(more.norm()) == 0.0
            continue
        assert int(torch.linalg.matrix_rank(more, atol=1e-5)) <= 2
        assert_close(more, (extrapolated(on[name], was[name], 2, 1.25) - on[name]).detach())
