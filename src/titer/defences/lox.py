"""LoX: the leading directions of an alignment's update, taken further."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.train.nested import nested
from titer.train.objectives import single

__all__ = ["CARD", "PRESETS", "LoX", "extrapolated"]


def extrapolated(aligned: Tensor, start: Tensor, rank: int, factor: float) -> Tensor:
    """``W + α U_k U_kᵀ Δ``, ``Δ = W − W_start``, ``U_k`` its k leading left directions; all of Δ
    with k 0. Of experts in one tensor each has its own directions."""
    change = single(aligned) - single(start)
    if rank and rank < min(change.shape[-2:]):
        u, s, vh = torch.linalg.svd(change, full_matrices=False)
        change = (u[..., :rank] * s[..., None, :rank]) @ vh[..., :rank, :]
    return (single(aligned) + factor * change).to(aligned.dtype)


@dataclass(frozen=True, kw_only=True)
class LoX:
    """Let ``base`` (any defence) align or unlearn, then go on along what it did: every tensor of
    two axes or more takes ``factor`` times the ``rank`` leading directions of its change.

    Source: arXiv:2506.15606: rank 6 and factor 1.25 for Llama-2-7B, rank 3 elsewhere.
    Departs: the change is that of ``base`` from the model handed in, where the paper takes the
    difference of a released chat model from its released base.
    """

    base: Any = "npo"
    rank: int = 6
    factor: float = 1.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", nested("defence", self.base))
        if self.rank < 0 or not 0 <= self.factor < math.inf:
            raise BadInput(f"lox: rank={self.rank} and factor={self.factor} must not be negative.")

    def __call__(self, lm: LM, run: Run) -> LM:
        out = self.base(lm, _until_last(run))
        was = dict(lm.model.named_parameters())
        with torch.no_grad():
            for name, weight in out.model.named_parameters():
                start = was.get(name)
                if start is not None and weight.dim() > 1 and weight.shape == start.shape:
                    weight.copy_(extrapolated(weight, start, self.rank, self.factor))
        run.look(out)
        return out


def _until_last(run: Run) -> Run:
    """The same run, whose last checkpoint is left for what is handed out."""
    end = run.budget.steps
    return replace(run, checkpoints=tuple(step for step in run.checkpoints if step != end))


PRESETS = {
    "lox-testbed": Preset(
        title="NPO taken further, for models of about a million parameters",
        fields={"base": "npo-testbed", "rank": 6},
        steps=(250, 1000),
        source="titer",
    ),
    "lox-paper": Preset(
        title="Llama-2-7B", fields={}, steps=(250, 1000), source="arXiv:2506.15606"
    ),
    "lox-full": Preset(
        title="the whole change, once more",
        fields={"rank": 0, "factor": 1.0},
        steps=(250, 1000),
        source="arXiv:2506.15606, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=LoX,
    source="arXiv:2506.15606",
    summary="the leading directions of what a defence did to the weights, taken further",
    family="weights",
    departures="the change of a defence applied here, not of a released model. Data: its "
    "base's. No pass of its own, one decomposition a matrix. Claims resistance, stability and "
    "trainability. Known breaker: rates of 1e-4 (its own table)",
    presets=PRESETS,
)
