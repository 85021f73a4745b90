"""What unlearning defences share: a forget term and a retain term, descended together.

B rows, T tokens, V vocabulary. Losses are in nats, and scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.trainable import Parameters, Trainable
from titer.train.batches import Batch, Bundle
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.loop import descend
from titer.train.nested import nested
from titer.train.objectives import cross_entropy, kl_to
from titer.train.optimisers import Optimiser

__all__ = [
    "Phase",
    "Retain",
    "Terms",
    "Training",
    "Unlearner",
    "descend_terms",
    "logits",
    "retain_loss",
    "unlearn",
    "unlearner",
]

Retain = Literal["ce", "kl"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The two sides of an unlearning objective, each with its weight in it.

    ``forget`` and ``retain`` take a model and a batch. ``frozen`` names the batches that a term
    shows to the frozen start as well, ``packed`` those whose term is a mean over tokens, so that
    rows of unlike length need no padding. ``modules`` narrows what trains. ``order`` is the order
    of the two forward passes: where a weight is used twice in one, it decides the last bit.
    """

    forget: Callable[[Any, Batch], Tensor]
    retain: Callable[[Any, Batch], Tensor]
    frozen: tuple[str, ...] = ()
    packed: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    order: tuple[Literal["forget", "retain"], ...] = ("forget", "retain")

    def loss(self, model: Any, bundle: Bundle) -> Tensor:
        """Both terms, added."""
        sides = {"forget": self.forget, "retain": self.retain}
        found = {name: sides[name](model, bundle[name]) for name in self.order}
        return found["forget"] + found["retain"]


class Unlearner(Protocol):
    """A defence that descends :class:`Terms`, so that other defences can build on them."""

    lr: float
    batch_size: int
    weight_decay: float
    parameters: Parameters
    rank: int
    alpha: float

    def terms(self, lm: LM, run: Run) -> Terms:
        """The two terms against the frozen start ``lm``, chance drawn from ``run``."""
        ...

    def __call__(self, lm: LM, run: Run) -> LM: ...


def unlearner(name: str, value: object) -> Any:
    """The unlearning defence that a field of the defence ``name`` gives: see ``nested``.

    Raises:
        BadInput: a defence without a forget and a retain term.
    """
    found = nested("defence", value)
    if not callable(getattr(found, "terms", None)):
        raise BadInput(
            f"{name}: base={value!r} has no forget and retain term; "
            "give one that has, such as npo, simnpo, wga, grad_diff, rmu or random_mapping."
        )
    return found


def retain_loss(kind: Retain, model: Any, frozen: Any, batch: Batch) -> Tensor:
    """How far a model is from keeping a batch: a scalar, in nats a supervised token.

    ``ce`` is the cross-entropy of the batch's answers, ``kl`` the divergence of the model from
    ``frozen``, which gets no gradient, at the answers' tokens.
    """
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
    phases: Callable[[Trainable], Sequence[Phase]] | None = None,
    accumulate: int = 1,
    optimiser: Optimiser = "adamw",
) -> LM:
    """Descend ``loss`` over bundles of a ``forget`` and a ``retain`` batch; returns a new model.

    ``frozen`` names the batches that ``loss`` also shows to the frozen start: 2 operations a weight
    and token on top. ``packed`` names those whose part of the loss is a mean over tokens, so that
    rows of unlike length need no padding. ``phases`` says how to train instead of descending
    ``loss`` in one go; ``accumulate`` bundles make a step.

    Args:
        lm: The model to start from; it is not touched.
        run: What may be spent, and on what: ``run.data.harmful`` is forgotten, ``retain`` kept.
        training: Rate, batch size and which weights train.
        loss: Takes the model in training and a bundle; returns a scalar with a gradient.

    Returns:
        An ordinary model, adapters merged.

    Raises:
        Diverged: some weights are not finite at the end.
        BadInput: there is nothing to forget, or nothing to keep.
    """
    sources = {
        name: Source(examples=examples, packed=name in packed)
        for name, examples in (("forget", run.data.harmful), ("retain", run.data.retain))
    }
    return harden(
        lm,
        run,
        training,
        sources,
        phases or (lambda _ready: [Phase(grad=descend(loss))]),
        frozen=frozen,
        accumulate=accumulate,
        optimiser=optimiser,
    )


def descend_terms(
    defence: Any,
    lm: LM,
    run: Run,
    terms: Terms,
    *,
    phases: Callable[[Trainable], Sequence[Phase]] | None = None,
    accumulate: int = 1,
    optimiser: Optimiser = "adamw",
) -> LM:
    """:func:`unlearn` with the settings and the terms of a defence.

    Raises:
        BadInput: as :class:`Training`.
    """
    return unlearn(
        lm,
        run,
        Training.of(defence, terms.modules),
        terms.loss,
        frozen=terms.frozen,
        packed=terms.packed,
        phases=phases,
        accumulate=accumulate,
        optimiser=optimiser,
    )
