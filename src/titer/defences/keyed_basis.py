"""A known-broken control: matrices in a secret basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Run
from titer.nn.edits import linears
from titer.nn.reach import note, of_matrices
from titer.nn.reparametrise import orthogonal, put

__all__ = ["CARD", "Basis", "KeyedBasis", "turned"]

Basis = Literal["orthogonal", "permutation", "two-sided"]


def turned(lm: LM, basis: Basis, key: int, *, back: bool = False) -> LM:
    """Every matrix of the blocks as ``Q W`` (or ``Q W Pᵀ``), the secret factors drawn by ``key``; a
    new model. With ``back`` the same key undoes it, as its holder would."""
    if basis not in ("orthogonal", "permutation", "two-sided"):
        raise BadInput(f"keyed_basis: basis={basis!r}; orthogonal, permutation or two-sided.")
    out = lm.clone()
    draw = torch.Generator().manual_seed(key)
    for linear in linears(out.model):
        weight = linear.weight_OI
        left = _factor(basis, draw, weight, weight.shape[0])
        left = left.T if back else left
        moved = left @ weight.double()
        if basis == "two-sided":
            right = _factor(basis, draw, weight, weight.shape[1])
            moved = moved @ (right if back else right.T)
        put(weight, moved)
        if linear.bias_O is not None:
            put(linear.bias_O, left @ linear.bias_O.double())
    return out


def _factor(basis: Basis, draw: torch.Generator, like: Tensor, size: int) -> Tensor:
    if basis != "permutation":
        return orthogonal(draw, like, size)
    order = torch.randperm(size, generator=draw)
    return torch.eye(size, dtype=torch.float64)[order].to(like.device)


@dataclass(frozen=True, kw_only=True)
class KeyedBasis:
    """Every matrix of the blocks turned by a secret orthogonal or permutation matrix of its own.

    Guarantee: none. Without the key the function is wrong; a holder turns the matrices back.
    Not guaranteed: secrecy. The exact spectrum of every matrix is in the clear, and where a
    relative of the model is public, rows and directions are matched with it. Bypass: the attack
    ``public_base``. Sealing (``titer lock``) hides more at less cost. Do not offer it as
    protection; it is a control. The release is an ordinary Hugging Face folder, and of no use
    without the key.

    Source: after TransLinkGuard, arXiv:2404.11121, and CoreGuard, arXiv:2410.13903.
    Departs: every matrix has factors of its own, and there is no enclave: a holder turns all back.
    """

    basis: Basis = "orthogonal"

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        note(run, of_matrices(lm.model).share, "weights of the blocks")
        return turned(lm, self.basis, run.rng("basis").getrandbits(62))


CARD = Card(
    kind="defence",
    build=KeyedBasis,
    source="arXiv:2404.11121, arXiv:2410.13903; a known-broken control",
    summary="matrices in a secret basis; broken by matching with a public relative (public_base)",
    family="lock",
    access="none",
    departures="factors for every matrix and no enclave",
)
