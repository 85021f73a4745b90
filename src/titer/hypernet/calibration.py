"""How large real attackers' updates are, so that a budget allows what they do and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from titer.core.errors import BadInput
from titer.hypernet.sites import at_linears, located, matrix

__all__ = ["Ratio", "calibrated", "ratios"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The change of one layer as shares of its weight: by largest singular value and by Frobenius
    norm. ``rank`` is the effective rank of the change, see
    :func:`titer.hypernet.adversary.effective_rank`."""

    path: str
    kind: str
    spectral: float
    frobenius: float
    rank: float


@torch.no_grad()
def ratios(before: Any, after: Any, modules: Sequence[str] = ()) -> list[Ratio]:
    """The change of each linear layer inside blocks from one model to another of the same shape.

    Raises:
        BadInput: the models differ in shape.
    """
    sites = at_linears(before, modules)
    found: list[Ratio] = []
    for site, old, new in zip(sites, located(before, sites), located(after, sites), strict=True):
        was, now = matrix(old), matrix(new)
        if was is None or now is None or was.shape != now.shape:
            raise BadInput(f"{site.path} differs in shape; compare a model with its fine-tune.")
        values = torch.linalg.svdvals(now.float() - was.float())
        energy = values.square()
        share = energy / energy.sum().clamp(min=1e-30)
        entropy = float(-torch.xlogy(share, share).sum())
        found.append(
            Ratio(
                path=site.path,
                kind=site.kind,
                spectral=float(values[0] / torch.linalg.matrix_norm(was.float(), 2)),
                frobenius=float(energy.sum().sqrt() / was.float().norm()),
                rank=float(torch.tensor(entropy).exp()) if float(energy.sum()) > 0 else 0.0,
            )
        )
    return found


def calibrated(found: Sequence[Ratio], share: float = 0.9) -> float:
    """The spectral budget that holds this share of the layers that an attacker changed.

    Raises:
        BadInput: nothing was measured, or no such share.
    """
    if not found or not 0 < share <= 1:
        raise BadInput(
            f"a budget from {len(found)} layers and share={share:g}; give some, and a share."
        )
    values = torch.tensor([one.spectral for one in found], dtype=torch.float64)
    return float(torch.quantile(values, share))
