"""What keeps an edit inside its budget: norms, and scaling down to them, with exact gradients.

P patches, S sites of equal shape, R slots, I and O the widths a site reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.hypernet.apply import on_output
from titer.hypernet.sites import Site, located
from titer.train.batches import Batch

__all__ = ["Norm", "bounded", "cap", "orthonormal", "pair_norm", "relative", "shrink"]

Norm = Literal["spectral", "frobenius"]


def pair_norm(u_RI: Tensor, v_RO: Tensor, kind: Norm) -> Tensor:
    """The norm of ``Vᵀ U`` without forming it, over any leading axes.

    Spectral: the leading singular pair comes from thin QRs without gradients, and the value is
    ``yᵀ Vᵀ U x`` at that pair. That is the norm exactly and its gradient too, by the envelope
    theorem, and it is defined at zero, where decompositions have none.
    """
    if kind == "frobenius":
        squared = ((u_RI @ u_RI.mT) * (v_RO @ v_RO.mT)).sum((-2, -1))
        return squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()
    with torch.no_grad():
        left, r_left = torch.linalg.qr(v_RO.mT)
        right, r_right = torch.linalg.qr(u_RI.mT)
        y, _, x = torch.linalg.svd(r_left @ r_right.mT)
        y_O1, x_I1 = left @ y[..., :, :1], right @ x[..., :1, :].mT
    return ((v_RO @ y_O1) * (u_RI @ x_I1)).sum((-2, -1))


def shrink(size: Tensor, limit: Tensor) -> Tensor:
    """The factor that brings ``size`` down to ``limit``, and 1 inside; finite, with its gradient,
    for a size of zero and a limit without end."""
    tiny = torch.finfo(size.dtype).tiny
    limit = limit.to(size).clamp(tiny, 1 / tiny)
    return limit / torch.maximum(size, limit)


def cap(vectors: Tensor, limits_S: Tensor) -> Tensor:
    """Bound each slot's length by its site's limit; (P, S, R, width)."""
    squared = vectors.square().sum(-1, keepdim=True)
    length = squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()
    return vectors * shrink(length, limits_S[:, None, None])


def _median_length(model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
    """Median length of the activations at the real tokens of a batch, one a site."""
    seen: list[Tensor] = []

    def note(_inputs: Tensor, output: Tensor) -> Tensor:
        seen.append(output[batch.attention_mask.bool()].norm(dim=-1).median())
        return output

    handles = [on_output(module, note) for module in located(model, sites)]
    try:
        with torch.no_grad():
            model(**batch.inputs(), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(seen)


def bounded(budget: float | None, name: str) -> None:
    """Raise :class:`BadInput` for a budget that bounds nothing or forbids everything."""
    if budget is not None and not 0 < budget < math.inf:
        raise BadInput(f"{name}: budget={budget}; give a positive number, or none for no bound.")


def orthonormal(vectors: Tensor) -> Tensor:
    """The same span with orthonormal slots, (…, R, width)."""
    return torch.linalg.qr(vectors.mT)[0].mT


def relative(budget: float | None, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
    """``budget`` times the median length of each site's activations, infinite for none; (S,)."""
    if budget is None:
        return torch.full((len(sites),), math.inf)
    return _median_length(model, sites, batch) * budget
