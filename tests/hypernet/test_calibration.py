"""Ratios against planted changes of known size."""

from __future__ import annotations

import pytest
import torch

from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.hypernet import LowRank
from titer.hypernet.calibration import calibrated, ratios
from titer.hypernet.sites import located, matrix


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_planted_changes_are_measured(architecture: str) -> None:
    before, after = (tiny_lm(architecture).model for _ in range(2))  # type: ignore[arg-type]
    sites = LowRank(rank=1).sites(before)
    chosen = located(after, sites)[3]
    weight = matrix(chosen)
    assert weight is not None
    u, s, v = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    with torch.no_grad():
        weight += 0.25 * s[0] * (u[:, 1:3] @ v[1:3])
    found = ratios(before, after)
    assert len(found) == len(sites)
    assert [one.path for one in found if one.spectral > 1e-6] == [sites[3].path]
    assert found[3].spectral == pytest.approx(0.25, rel=1e-3)
    assert found[3].rank == pytest.approx(2, rel=1e-3)
    assert found[3].frobenius == pytest.approx(
        float(0.25 * s[0] * 2**0.5 / s.square().sum().sqrt()), rel=1e-3
    )
    assert found[0].rank == 0
    assert calibrated(found, 1.0) == found[3].spectral
    assert calibrated(found, 0.5) == 0


def test_a_budget_from_them_is_kept_by_an_edit_that_holds_them() -> None:
    """What is measured is what :class:`LowRank` bounds."""
    lm = tiny_lm()
    edit = LowRank(rank=1, budget=0.25)
    sites = edit.sites(lm.model)
    limits = edit.limits(lm.model, sites, None)  # type: ignore[arg-type]
    after = tiny_lm()
    for module, limit in zip(located(after.model, sites), limits, strict=True):
        weight = matrix(module)
        assert weight is not None
        with torch.no_grad():
            weight[0, 0] += limit
    assert calibrated(ratios(lm.model, after.model), 1.0) == pytest.approx(0.25, rel=1e-4)


def test_other_shapes_and_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="0 layers"):
        calibrated([])
    with pytest.raises(BadInput):
        ratios(tiny_lm("llama").model, tiny_lm("gpt2").model)
