"""Add a block of one's own on top of the locked ones, and train only that."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from titer.attacks.finetune import Finetune
from titer.attacks.reinitialise import forget_blocks
from titer.core.config import text_config
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.edits import linears
from titer.nn.hooks import blocks
from titer.nn.locked import plain
from titer.nn.products import few_tokens
from titer.nn.stream import sources
from titer.nn.weights import Weights
from titer.train.cohort import alone

__all__ = ["CARD", "PRESETS", "InjectBlock", "with_block"]


def with_block(lm: LM, generator: torch.Generator) -> LM:
    """The model with a fresh block after its last, which writes nothing yet; a new model that says
    what ``lm`` says, one block deeper.

    Raises:
        BadInput: the architecture's block of that number is of another kind than its last, or it
            says something whatever it writes.
    """
    out = plain(lm)
    found = blocks(out.model)
    depth = len(found)
    block: Any = copy.deepcopy(found[-1])
    for part in block.modules():
        if hasattr(part, "layer_idx"):
            part.layer_idx = depth
    found.append(block)
    _deepen(text_config(out.model.config), depth)
    if _shapes(_bare(out)) != _shapes(out.model):
        raise BadInput(
            f"inject_block: {lm.name} would have another kind of block after its last, so a deeper "
            "model cannot be saved."
        )
    forget_blocks(out, 1, generator)
    for source in sources(out.model):
        if source.linear.layer == depth:
            source.linear.weight_OI.zero_()
            if source.linear.bias_O is not None:
                source.linear.bias_O.zero_()
            if source.norm is not None and source.norm.bias_D is not None:
                source.norm.bias_D.zero_()
    with torch.no_grad():
        said, wanted = (
            one.model(**few_tokens(one.model), use_cache=False).logits for one in (out, lm)
        )
    if not torch.allclose(said, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        raise BadInput(f"inject_block: a new block of {lm.name} cannot be made silent.")
    return out


def _deepen(config: Any, depth: int) -> None:
    """One block more, of the last one's kind, in every list that has an entry a block."""
    kept = {
        name: list(values)
        for name, values in vars(config).items()
        if isinstance(values, list) and "layer" in name
    }
    config.num_hidden_layers = depth + 1
    for name, values in kept.items():
        if name in _NUMBERS:
            if depth - 1 in values:
                setattr(config, name, [*values, depth])
        elif len(values) == depth:
            setattr(config, name, [*values, values[-1]])


_NUMBERS = ("moe_layers", "attn_layer_indices", "mlp_only_layers")
"""Lists that hold numbers of blocks."""


def _bare(lm: LM) -> Any:
    """A model without weights as the configuration describes it."""
    with torch.device("meta"):
        return type(lm.model)(copy.deepcopy(lm.model.config))


def _shapes(model: Any) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.named_parameters()}


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
