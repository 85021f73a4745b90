"""Which weights a fine-tune may change: all, a low-rank adapter, or norms and embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from titer.core.lm import LM
from titer.nn.stack import stacked
from titer.nn.weights import Parameters, Weights, chosen, named_matrices

__all__ = ["Parameters", "Trainable", "cost", "named_matrices", "trainable"]


@dataclass(frozen=True)
class Trainable:
    """A model ready to train: ``lm`` to run, ``weights`` to step, and its cost per token."""

    lm: LM
    weights: list[nn.Parameter]
    flops_per_token: float


@contextmanager
def trainable(
    lm: LM,
    which: Parameters,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    seed: int = 0,
    modules: Sequence[str] = (),
) -> Iterator[Trainable]:
    """Make part of ``lm`` trainable, in place; afterwards adapters are merged and nothing stays.

    See :class:`~titer.nn.weights.Weights` for the kinds. An adapter's factors are
    (1, R, I) and (1, O, R).
    After an error inside the block adapters are taken off unmerged.

    Raises:
        BadInput: ``modules`` match nothing.
    """
    knobs = Weights(which=which, rank=rank, alpha=alpha, seed=seed, modules=tuple(modules))
    if which == "lora":
        with stacked(lm, [knobs]) as stack:
            price = cost(lm, knobs, stack.parameters(0))
            stack.register()
            yield Trainable(lm, stack.leaves(), price)
            stack.merge(0)
        return
    flags = [(weight, weight.requires_grad) for weight in lm.model.parameters()]
    weights = chosen(lm, which, modules)
    try:
        for weight, _ in flags:
            weight.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        yield Trainable(lm, weights, cost(lm, knobs))
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)
            weight.grad = None


def cost(lm: LM, knobs: Weights, adapter: int = 0) -> float:
    """Floating-point operations of training on one token.

    A weight that trains costs 6, a frozen one 4 (the gradient with respect to its input is still
    needed), counting weights in matrix products only; ``adapter`` are an adapter's.
    """
    matrices = lm.matmul_weights()
    size = sum(weight.numel() for weight in matrices)
    if knobs.which == "lora":
        return 4.0 * size + 6.0 * adapter
    trained = {id(weight) for weight in chosen(lm, knobs.which, knobs.modules)}
    return 4.0 * size + 2.0 * sum(weight.numel() for weight in matrices if id(weight) in trained)
