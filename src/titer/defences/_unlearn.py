"""What the unlearning defences share: a forget term and a retain term, descended together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.trainable import Parameters, trainable
from titer.train.batches import Batch, Bundle, bundles, cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import cross_entropy, kl_to

__all__ = ["Retain", "Training", "logits", "retain_loss", "unlearn"]

Retain = Literal["ce", "kl"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How an unlearning defence trains; every field is a knob of the defence that passes it.

    A defence makes one when it is built, so that a bad knob shows before any work.
    """

    lr: float
    batch_size: int
    weight_decay: float
    parameters: Parameters
    rank: int
    alpha: float
    modules: tuple[str, ...] = ()

    @classmethod
    def of(cls, defence: Any, modules: Sequence[str] = ()) -> Training:
        """The knobs of a defence that has them under these names; ``modules`` narrows what trains.

        Raises:
            BadInput: a knob that no training can have.
        """
        knobs = {spec.name: getattr(defence, spec.name) for spec in fields(cls)[:-1]}
        return cls(**knobs, modules=tuple(modules))

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.batch_size < 1 or self.rank < 1:
            raise BadInput(
                f"lr={self.lr}, batch_size={self.batch_size}, rank={self.rank}; "
                "all three must be positive."
            )


def logits(model: Any, batch: Batch) -> Tensor:
    """The model's output on a batch, (B, T, V)."""
    return model(**batch.inputs(), use_cache=False).logits


def retain_loss(kind: Retain, model: Any, frozen: Any, batch: Batch) -> Tensor:
    """Cross-entropy on retain text, or the divergence from the frozen start at answer tokens."""
    out = logits(model, batch)
    if kind == "ce":
        return cross_entropy(out, batch.labels)
    with torch.no_grad():
        reference = logits(frozen, batch)
    return kl_to(reference, out, batch.labels)


def unlearn(
    lm: LM,
    run: Run,
    training: Training,
    loss: Callable[[Any, Bundle], Tensor],
    *,
    frozen: Sequence[str] = (),
    packed: Sequence[str] = (),
) -> LM:
    """Descend ``loss`` over bundles of a ``forget`` and a ``retain`` batch; returns a new model.

    ``frozen`` names the batches that ``loss`` also shows to the frozen start: 2 operations a weight
    and token on top. ``packed`` names those whose part of the loss is a mean over tokens, so that
    rows of unlike length need no padding.
    """
    out = lm.clone()
    forward = 2.0 * lm.parameters_in_matmuls()
    stream = bundles(
        forget=cycle(
            out,
            run.data.harmful,
            batch_size=training.batch_size,
            rng=run.rng("order forget"),
            role="forget",
            packed="forget" in packed,
        ),
        retain=cycle(
            out,
            run.data.retain,
            batch_size=training.batch_size,
            rng=run.rng("order retain"),
            role="retain",
            packed="retain" in packed,
        ),
    )
    with trainable(
        out,
        training.parameters,
        rank=training.rank,
        alpha=training.alpha,
        seed=run.rng("adapter").getrandbits(62),
        modules=training.modules,
    ) as ready:
        fit(
            ready.lm,
            descend(loss),
            stream,
            run,
            parameters=ready.weights,
            recipe=Recipe(
                lr=training.lr,
                weight_decay=training.weight_decay,
                flops_per_token=ready.flops_per_token,
                flops_besides=lambda bundle: forward * sum(bundle[name].tokens for name in frozen),
            ),
            steps=run.steps_left(),
        )
    return out
