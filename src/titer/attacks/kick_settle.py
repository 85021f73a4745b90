"""Leave the defended point in one leap, then settle where one lands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from titer.attacks.finetune import Finetune
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.edits import linears
from titer.nn.reach import of_matrices, tell

__all__ = ["CARD", "PRESETS", "KickSettle"]


@dataclass(frozen=True, kw_only=True)
class KickSettle:
    """One step on harmful pairs at ``kick`` times the rate, then fine-tuning that falls along a
    cosine from the rate itself.

    Defences that shape the loss around the released weights shape it nearby. The first step of
    AdamW moves every weight by the rate, whatever the gradient's size, so the leap is as long as
    the attacker says and still goes downhill. ``noise`` first adds that share of each matrix's
    standard deviation to the matrices inside the blocks; ``kick`` 0 leaves the leap out.

    Source: titer, row H05; after the name of an attack in arXiv:2605.14605, whose algorithm we have
    not seen.
    """

    kick: float = 10.0
    noise: float = 0.0
    lr: float = 2e-5
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not (0 <= self.kick < math.inf and 0 <= self.noise < math.inf):
            raise BadInput(f"kick_settle: kick={self.kick} and noise={self.noise}; 0 or more each.")
        if not (self.kick or self.noise):
            raise BadInput("kick_settle: without kick or noise this is finetune; give one of them.")
        Finetune(lr=self.lr, batch_size=self.batch_size)

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if not run.affords():
            return lm.clone()
        out = self._shaken(lm, run) if self.noise else lm
        if self.kick:
            leap = Finetune(lr=self.lr * self.kick, batch_size=self.batch_size)
            out = leap(out, run.stage(1, "kick"))
        settle = Finetune(lr=self.lr, batch_size=self.batch_size, schedule="cosine")
        return settle(out, run.stage(run.steps_left(), "settle"))

    def _shaken(self, lm: LM, run: Run) -> LM:
        out = lm.clone()
        draw = torch.Generator().manual_seed(run.rng("noise").getrandbits(62))
        tell(run, of_matrices(out.model).share, "weights of the blocks")
        for linear in linears(out.model):
            weight = linear.weight_OI
            drawn = torch.randn(weight.shape, generator=draw)
            weight += (self.noise * weight.float().std() * drawn.to(weight.device)).to(weight.dtype)
        return out


PRESETS = {
    "H05": Preset(
        family="adaptive",
        title="one leap, then a cosine",
        fields={"lr": 2e-5, "kick": 10.0},
        lr_scale=1.0,
        star="full-adamw",
        steps=(300, 500),
        source="arXiv:2605.14605, titer",
    ),
}

CARD = Card(
    kind="attack",
    build=KickSettle,
    source="titer; after arXiv:2605.14605",
    summary="one large step or noise away from the released weights, then fine-tuning",
    family="adaptive",
    presets=PRESETS,
)
