"""A known-broken control: norms and their readers at opposite scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from titer.method import LM, BadInput, Card, Run
from titer.nn.reparametrise import norms, rescale

__all__ = ["CARD", "GainLock"]


@dataclass(frozen=True, kw_only=True)
class GainLock:
    """``γ → s γ`` and ``W → W diag(1/s)`` at every norm, ``s`` being ``2^bits`` or ``2^-bits``
    channel by channel, as the seed draws.

    Guarantee: the function is kept to the bit, and a training script with one learning rate for all
    weights, or plain LoRA, has a harder time. Not guaranteed: anything against someone who looks at
    the weights. Bypass: multiply the scale back (the attack ``fold``); it takes no step. A control:
    a suite that does not break it is void. The release is an ordinary Hugging Face folder. A tied
    head is untied. Also harder: benign training.

    Source: a symmetry of normalised networks; titer.
    """

    bits: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 30:
            raise BadInput(f"gain_lock: bits={self.bits}; give 1 to 30.")

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        out = lm.clone()
        draw = torch.Generator().manual_seed(run.rng("gains").getrandbits(62))
        for norm, reading in norms(out):
            signs = torch.randint(0, 2, (len(norm.weight),), generator=draw).double() * 2 - 1
            # Powers of two: products round as they did.
            rescale(norm, reading, (2.0 ** (self.bits * signs)).to(reading[0].device))
        return out


CARD = Card(
    kind="defence",
    build=GainLock,
    source="titer; a known-broken control",
    summary="norms' scales up and down, readers the other way; broken by folding (attack fold)",
    family="lock",
    access="none",
    departures="powers of two, so that the function is kept to the bit",
)
