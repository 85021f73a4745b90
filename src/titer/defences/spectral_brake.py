"""A known-broken control: a stretched spectrum, and a compensator behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Run
from titer.nn.hooks import blocks
from titer.nn.reparametrise import Head, heads, put

__all__ = ["CARD", "SpectralBrake", "braked"]


def braked(weight_OI: Tensor, top: int, alpha: float) -> tuple[Tensor, Tensor]:
    """``W̃ = U Σ̃ Vᵀ``, the ``top`` largest singular values times ``alpha``, and the compensator
    ``C = U Σ Σ̃⁻¹ Uᵀ`` for which ``C W̃ = W``; (O, I) and (O, O), O at most I.

    Also ``A = C⁻¹``, with ``W̃ = A W``, is ``U Σ̃ Σ⁻¹ Uᵀ``: returned are A and C, since A acts on a
    bias as well.
    """
    u, _, _ = torch.linalg.svd(weight_OI.double(), full_matrices=False)
    stretch = torch.ones(u.shape[1], dtype=u.dtype, device=u.device)
    stretch[:top] = alpha
    return (u * stretch) @ u.T, (u / stretch) @ u.T


@dataclass(frozen=True, kw_only=True)
class SpectralBrake:
    """Multiply the ``top`` share of the singular values of each head's value map by ``alpha``, and
    undo it in the output map that follows, in the share ``layers`` of the blocks.

    The largest curvature grows as ``alpha²``, so that a fixed learning rate must shrink with it.
    Guarantee: the function is kept within rounding, and an unmodified training script is slowed.
    Not guaranteed: anything against someone who multiplies two matrices. Bypass: fold the
    compensator (the attack ``fold``), or rates of its own for each tensor. It slows benign training
    too: read trainability. The seed chooses blocks and nothing else; there is no key.

    Source: SpecDef, arXiv:2602.18868.
    Departs: the compensator is no layer of its own but multiplied into the next linear map, so that
    the release is an ordinary Hugging Face folder. Only values are followed by one with nothing in
    between but a weighted mean over tokens, so only they are braked.
    """

    alpha: float = 1e4
    top: float = 0.5
    layers: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.alpha <= 1e6 or not math.isfinite(self.alpha):
            raise BadInput(f"spectral_brake: alpha={self.alpha}; give 1 to 1e6.")
        if not (0 < self.top < 1 and 0 < self.layers <= 1):
            raise BadInput(
                f"spectral_brake: top={self.top}, layers={self.layers}; both are shares above 0, "
                "top below 1."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        if lm.model.dtype not in (torch.float32, torch.float64):
            raise BadInput(
                f"spectral_brake: the model has dtype {lm.model.dtype}, in which the compensator "
                "would destroy it; load it in float32."
            )
        run.look(lm)
        out = lm.clone()
        depth = len(blocks(out.model))
        chosen = set(run.rng("blocks").sample(range(depth), max(1, round(self.layers * depth))))
        for head in heads(out):
            if head.layer in chosen:
                self._brake(head)
        return out

    def _brake(self, head: Head) -> None:
        top = max(1, round(self.top * len(head.values)))
        stretch, back = braked(head.values, top, self.alpha)
        put(head.values, stretch @ head.values.double())
        if head.bias is not None:
            put(head.bias, stretch @ head.bias.double())
        for columns in head.mixed:
            put(columns, columns.double() @ back)


CARD = Card(
    kind="defence",
    build=SpectralBrake,
    source="arXiv:2602.18868; a known-broken control",
    summary="value maps' spectra stretched, outputs compensate; broken by folding (attack fold)",
    family="lock",
    access="none",
    departures="the compensator is multiplied into the output map; only value maps are braked",
)
