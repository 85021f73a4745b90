"""Leave a safeguard's basin by rounding and noise, then fine-tune."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from titer.attacks.finetune import Finetune
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run
from titer.nn.edits import linears
from titer.nn.quantise import rtn_model
from titer.nn.reach import of_matrices, tell

__all__ = ["CARD", "PRESETS", "RoundNoise"]


@dataclass(frozen=True, kw_only=True)
class RoundNoise:
    """Round to ``bits``, add noise, fine-tune on harmful pairs at a constant rate.

    The rounding is charged as the first step, so that the point of a trace at one step is the
    rounded model, untrained and without noise; the points after it are the fine-tune. ``noise`` is
    the standard deviation as a share of each matrix's own. Both act on the matrices inside the
    blocks; ``bits`` None leaves the rounding out.

    Source: rounding, Zhang et al. 2024, arXiv:2410.16454; noise before training is titer's.
    """

    bits: int | None = 4
    noise: float = 0.03
    lr: float = 2e-5
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise BadInput(f"round_noise: bits={self.bits}; give 1 to 16, or none.")
        if not 0 <= self.noise < math.inf:
            raise BadInput(f"round_noise: noise={self.noise}; it is a share, 0 or more.")
        Finetune(lr=self.lr, batch_size=self.batch_size)

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if not run.affords():
            return lm.clone()
        run.flags.append(TWO_PHASES)
        tell(run, of_matrices(lm.model).share, "weights of the blocks")
        out = lm.clone()
        if self.bits is not None:
            rtn_model(out, self.bits)
        run.charge(steps=1)
        run.look(out)
        draw = torch.Generator().manual_seed(run.rng("noise").getrandbits(62))
        for linear in linears(out.model):
            weight = linear.weight_OI
            drawn = torch.randn(weight.shape, generator=draw)
            weight += (self.noise * weight.float().std() * drawn.to(weight.device)).to(weight.dtype)
        train = Finetune(lr=self.lr, batch_size=self.batch_size)
        return train(out, run.stage(run.steps_left(), "train"))


PRESETS = {
    "W04": Preset(
        family="weight surgery",
        title="4-bit rounding, then noise and fine-tuning",
        fields={"bits": 4, "noise": 0.03, "lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        steps=(100, 100),
        source="arXiv:2410.16454, titer",
    ),
}

CARD = Card(
    kind="attack",
    build=RoundNoise,
    source="arXiv:2410.16454, titer",
    summary="weights rounded, shaken by noise, then fine-tuned; a point for each",
    family="weights",
    presets=PRESETS,
)
