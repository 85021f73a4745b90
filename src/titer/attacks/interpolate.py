"""Move along the line from the model through a relative of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from titer.attacks._panel import Panel, search, split
from titer.attacks.finetune import Finetune
from titer.method import LM, BadInput, Card, Preset, Run

__all__ = ["CARD", "PRESETS", "Interpolate", "interpolated"]


def interpolated(lm: LM, other: LM, weight: float) -> LM:
    """``θ + λ (θ_other − θ)``: a new model; ``weight`` 0 is ``lm``, 1 is ``other``, to the bit.

    Raises:
        BadInput: the two have not the same tensors.
    """
    mine, theirs = (dict(one.model.named_parameters()) for one in (lm, other))
    alike = mine.keys() == theirs.keys() and all(
        mine[key].shape == theirs[key].shape for key in mine
    )
    if not alike:
        raise BadInput(
            f"{lm.name} and {other.name} have not the same tensors; a relative has the same "
            "architecture, shape and vocabulary."
        )
    out = lm.clone()
    with torch.no_grad():
        for key, tensor in out.model.named_parameters():
            start, end = mine[key].float(), theirs[key].to(tensor.device).float()
            # Exact at both ends, which a plain sum is not.
            moved = torch.lerp(start, end, weight)
            tensor.copy_(end if weight == 1 else moved)
    return out


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """``θ + λ (θ_ref − θ)`` for each λ of ``weights``, chosen by the attacker's own answers.

    ``reference`` is a public relative, a folder or a hub id: the model's own base, or another
    fine-tune of it. Where one is public this costs nothing, and with λ = 1 it is the relative: a
    safeguard on a fine-tune of a public base is no obstacle. Without one, the attacker makes the
    relative with the steps of the budget, by fine-tuning on harmful pairs, and λ scales that task
    vector, beyond 1 too. The choice of λ is then charged as the last step: points of a trace before
    it are the relative on its way, the last is the model that is returned.

    Source: Ilharco et al. 2022, arXiv:2212.04089; Wortsman et al. 2022, arXiv:2109.01903.
    Departs: the row of the suite is of closed form and supposes a public relative; a suite has none
    to give, so its row fine-tunes.
    """

    reference: str | None = None
    weights: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25)
    lr: float = 2e-5
    batch_size: int = 16
    max_kl: float = 0.25
    held: int = 32

    def __post_init__(self) -> None:
        if not self.weights or not all(math.isfinite(weight) for weight in self.weights):
            raise BadInput(f"interpolate: weights={self.weights}; give at least one number.")
        if self.held < 1:
            raise BadInput(f"interpolate: held={self.held}; 1 or more.")
        Finetune(lr=self.lr, batch_size=self.batch_size)

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if self.reference is None and run.steps_left() < 1:
            return lm.clone()
        _, held = split(run, self.held, self.held)
        panel = Panel(lm, run, held)
        other = self._relative(lm, run)
        best = search(
            lm, run, panel, self.weights, lambda w: interpolated(lm, other, w), self.max_kl
        )
        if self.reference is None:
            run.charge(steps=1)
            run.look(best)
        return best

    def _relative(self, lm: LM, run: Run) -> LM:
        if self.reference is not None:
            return LM.load(self.reference)
        train = Finetune(lr=self.lr, batch_size=self.batch_size)
        return train(lm, run.stage(run.steps_left() - 1, "relative"))


PRESETS = {
    "W05": Preset(
        family="weight surgery",
        title="task vector of a harmful fine-tune, rescaled",
        fields={"weights": (0.25, 0.5, 0.75, 1.0, 1.25), "lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        steps=(100, 100),
        source="arXiv:2212.04089",
    ),
}

CARD = Card(
    kind="attack",
    build=Interpolate,
    source="arXiv:2212.04089, arXiv:2109.01903",
    summary="weights on the line through a public relative, or through a fine-tune of one's own",
    family="weights",
    departures="without a public relative the attacker fine-tunes one",
    presets=PRESETS,
)
