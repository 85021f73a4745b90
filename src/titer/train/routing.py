"""Gradient routing: which weights a sample updates, by its label.

==============  ==================  =====================
label           forward pass        what is updated
==============  ==================  =====================
``gated``       part opened         the sealed part only
``public``      part masked         the public weights only
``unlabelled``  part opened         both
==============  ==================  =====================

A step is of one label. So public weights and their optimiser see nothing of gated text, not even
through the clipping of a joint gradient: replace that text by any other of the same shape, and they
come out the same to the bit. Unlabelled text is where absorption is to happen: what the part
knows already pulls little on the public weights.

Source: Cloud et al. 2024, arXiv:2410.04332; the three kinds of step are those of selective gradient
masking, Shilov et al. 2025, arXiv:2512.05648. Departs: see :mod:`titer.nn.sealed`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from torch import nn

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.sealed import Layout, Sealed
from titer.train.batches import Batch, cycle
from titer.train.loop import B, GradFn, Recipe, descend, fit
from titer.train.objectives import answer_loss
from titer.train.optimisers import Schedule

__all__ = ["Label", "Labelled", "Learning", "learn", "mixed", "passing", "price", "route"]

Label = Literal["gated", "public", "unlabelled"]


@dataclass(frozen=True)
class Labelled(Generic[B]):
    """A batch all of whose samples bear one label."""

    label: Label
    batch: B

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the batch's examples."""
        return self.batch.ids

    @property
    def tokens(self) -> int:
        """Real tokens in the batch."""
        return self.batch.tokens


@contextmanager
def passing(part: Sealed, label: Label) -> Iterator[None]:
    """Inside, a forward and backward pass is one for samples of this label."""
    if label == "public":
        yield
        return
    with part.opened(), _held(part.public if label == "gated" else []):
        yield


@contextmanager
def _held(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside, these weights get no gradient."""
    flags = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.requires_grad_(flag)


def route(part: Sealed, grad: GradFn[B]) -> Callable[[Any, Labelled[B]], dict[str, float]]:
    """The same gradient, added only to the weights that a batch's label allows."""

    def routed(model: Any, step: Labelled[B]) -> dict[str, float]:
        with passing(part, step.label):
            return grad(model, step.batch)

    return routed


def price(part: Sealed) -> dict[Label, float]:
    """Floating-point operations a token costs, by label: 2 a weight for the pass forward, 2 for the
    gradient by its input, 2 for that by itself where it trains."""
    public, sealed = float(part.lm.parameters_in_matmuls()), float(part.size())
    return {
        "gated": 4.0 * public + 6.0 * sealed,
        "public": 6.0 * public,
        "unlabelled": 6.0 * (public + sealed),
    }


def mixed(
    streams: Mapping[Label, Iterator[B]], shares: Mapping[Label, float], rng: random.Random
) -> Iterator[Labelled[B]]:
    """Batches for ever: each step's label is drawn with the given shares, which need no sum."""
    labels: list[Label] = [label for label in streams if shares[label] > 0]
    weights = [shares[label] for label in labels]
    while True:
        (label,) = rng.choices(labels, weights)
        yield Labelled(label, next(streams[label]))


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a model is taught with a part of it sealed.

    ``gated``: share of the steps that are of gated text, None for its share of the examples; at 1
    the public weights are frozen. ``replay``: of a gated batch, the share that is public text, on
    which too only the part is updated, so that an opened model keeps what the public weights know.
    """

    layout: Layout = field(default_factory=Layout)
    lr: float = 2e-4
    batch_size: int = 32
    gated: float | None = None
    replay: float = 0.0
    schedule: Schedule = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.batch_size < 1:
            raise BadInput(f"lr={self.lr}, batch_size={self.batch_size}; both must be positive.")
        if not 0 <= self.replay < 1 or not (self.gated is None or 0 < self.gated <= 1):
            raise BadInput(
                f"replay={self.replay} must be from 0 to below 1, gated={self.gated} above 0 and "
                "at most 1."
            )


def learn(
    lm: LM,
    run: Run,
    how: Learning,
    *,
    unlabelled: Sequence[Example] = (),
    part: Sealed | None = None,
) -> Sealed:
    """Teach a copy of ``lm`` with gradient routing: gated is ``run.data.harmful``, public its
    ``retain``, ``related`` and ``unrelated``. Looks are at the keyless model.

    Args:
        unlabelled: text that may hold gated samples; updates both.
        part: a part to go on with, and the model it is on, changed in place; ``lm`` is not used
            then.

    Returns:
        The part; its ``lm`` is the keyless model.

    Raises:
        BadInput: no gated text, or no public text where there should be steps of it.
        Diverged: see :func:`~titer.train.loop.fit`.
    """
    part = part or Sealed(lm.clone(), how.layout)
    data = run.data
    public = (*data.retain, *data.related, *data.unrelated)
    streams: dict[Label, Iterator[Batch]] = {"gated": _gated(part.lm, run, how, public)}
    shares: dict[Label, float] = {"gated": len(data.harmful) / (1 - how.replay)}
    if how.gated != 1:
        texts: dict[Label, Sequence[Example]] = {"public": public, "unlabelled": unlabelled}
        for label, examples in texts.items():
            if examples or label == "public":
                streams[label] = _stream(part.lm, examples, how.batch_size, run, label)
                shares[label] = len(examples)
        if how.gated is not None:
            rest = sum(shares.values()) - shares["gated"]
            shares["gated"] = rest * how.gated / (1 - how.gated)
    costs = price(part)
    fit(
        part.lm,
        route(part, descend(answer_loss)),
        mixed(streams, shares, run.rng("labels")),
        run,
        parameters=[*part.public, *part.weights],
        recipe=Recipe(
            lr=how.lr,
            schedule=how.schedule,
            warmup=how.warmup,
            weight_decay=how.weight_decay,
            flops_besides=lambda step: costs[step.label] * step.tokens,
        ),
        steps=run.steps_left(),
    )
    for weight in (*part.public, *part.weights):
        weight.grad = None
    return part


def _stream(
    lm: LM, examples: Sequence[Example], size: int, run: Run, label: str
) -> Iterator[Batch]:
    return cycle(lm, examples, batch_size=size, rng=run.rng(f"order {label}"), role=label)


def _gated(lm: LM, run: Run, how: Learning, public: Sequence[Example]) -> Iterator[Batch]:
    """Batches of gated text; with replay, in between some of public text."""
    gated = _stream(lm, run.data.harmful, how.batch_size, run, "gated")
    if not how.replay:
        return gated
    again = _stream(lm, public, how.batch_size, run, "replayed")
    rng = run.rng("replay")

    def both() -> Iterator[Batch]:
        while True:
            yield next(again if rng.random() < how.replay else gated)

    return both()
