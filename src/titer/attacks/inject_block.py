"""Add a block of one's own on top of the locked ones, and train only that."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from titer.attacks.finetune import Finetune
from titer.attacks.reinitialise import forget_blocks
from titer.method import LM, Card, Preset, Run
from titer.nn.edits import linears, writers
from titer.nn.hooks import blocks
from titer.nn.locked import plain
from titer.nn.weights import Weights
from titer.train.cohort import alone

__all__ = ["CARD", "PRESETS", "InjectBlock", "with_block"]


def with_block(lm: LM, generator: torch.Generator) -> LM:
    """The model with a fresh block after its last, which writes nothing yet; a new model that says
    what ``lm`` says, one block deeper."""
    out = plain(lm)
    found = blocks(out.model)
    depth = len(found)
    block: Any = copy.deepcopy(found[-1])
    for part in block.modules():
        if hasattr(part, "layer_idx"):
            part.layer_idx = depth
    found.append(block)
    out.model.config.num_hidden_layers = depth + 1
    kinds = getattr(out.model.config, "layer_types", None)
    if kinds:
        out.model.config.layer_types = [*kinds[:depth], kinds[depth - 1]]
    forget_blocks(out, 1, generator)
    for writer in writers(out.model):
        if writer.layer == depth:
            writer.weight_OI.zero_()
            if writer.bias_O is not None:
                writer.bias_O.zero_()
    return out


@dataclass(frozen=True, kw_only=True)
class InjectBlock:
    """A new block on top, silent at first, and only its matrices train.

    No gradient goes through what was released, so nothing that was done to its weights or to its
    backward pass slows it. The result is an ordinary model, one block deeper.

    Source: titer; that growing a model undoes a spectral lock is from arXiv:2602.18868.
    Departs: one block, drawn anew, with what it writes at zero.
    """

    lr: float = 2e-5
    batch_size: int = 16

    def __post_init__(self) -> None:
        self._train()

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if not run.affords():
            return lm.clone()
        draw = torch.Generator().manual_seed(run.rng("block").getrandbits(62))
        out = with_block(lm, draw)
        top = len(blocks(out.model)) - 1
        names = tuple(dict.fromkeys(linear.home for linear in linears(out.model, [top])))
        one = self._train().finetuning(out, run)
        return alone(out, replace(one, weights=Weights(which="full", modules=names)))

    def _train(self) -> Finetune:
        return Finetune(lr=self.lr, batch_size=self.batch_size)


PRESETS = {
    "L03": Preset(
        family="locks",
        title="a block of one's own on top, the rest frozen",
        fields={"lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        steps=(300, 500),
        source="titer, arXiv:2602.18868",
    ),
}

CARD = Card(
    kind="attack",
    build=InjectBlock,
    source="titer, arXiv:2602.18868",
    summary="a new block on top of frozen ones, trained on harmful pairs",
    family="locks",
    departures="one block, drawn anew, with what it writes at zero",
    presets=PRESETS,
)
