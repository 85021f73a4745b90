"""Noise on the weights: mixed with a fresh start, everywhere or where hidden facts are said to be.

P counts the weights, in the model's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn

from titer.core.data import Example
from titer.method import LM, Run
from titer.nn.chance import seeded
from titer.nn.trainable import trainable
from titer.train.batches import Batch, cycle
from titer.train.environments import Environment, places, streams
from titer.train.grads import exact, gradient
from titer.train.objectives import cross_entropy
from titer.train.penalties import Kind, Penalty

__all__ = ["Where", "importance", "masks", "no_forget", "noised", "pulled"]

Where = Literal["everywhere", "blocks", "embeddings", "head", "gradient", "penalty", "task_vector"]
"""Which weights are mixed with noise: all, those of the blocks (the last norm among them), the
token embeddings, the head; or the share of all weights with the largest importance for the hazard
relative to that for what is kept, that a penalty of invariance pulls hardest, or that the
unlearning moved furthest."""

Masks = Mapping[str, Tensor]
"""By a weight's name, 1 where it is mixed and 0 where it stays, in the weight's shape."""


@torch.no_grad()
def noised(
    model: nn.Module, share: float, scale: float, seed: int, chosen: Masks | None = None
) -> None:
    """Mix weights with a fresh start, in place: ``(1 − share) θ + share · fresh``.

    A matrix' fresh start is Xavier uniform times ``scale``; a norm's gain goes towards 1 and a bias
    towards 0. ``chosen`` says which entries; without it all are mixed. The draws are the same.

    Source: Lee et al. 2025, arXiv:2506.06278 (α is ``share``, β ``scale``).
    Departs: its repository takes 0 for gains as well, which kills the network at a share of 1.
    """
    device = next(model.parameters()).device
    names = {id(weight): name for name, weight in model.named_parameters()}
    with seeded(seed, device):
        done: set[int] = set()
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) in done:
                    continue
                done.add(id(weight))
                if weight.dim() >= 2:
                    fresh = scale * nn.init.xavier_uniform_(torch.empty_like(weight))
                elif name == "weight":
                    fresh = torch.ones_like(weight)
                else:
                    fresh = torch.zeros_like(weight)
                if chosen is None:
                    weight.mul_(1.0 - share).add_(share * fresh)
                else:
                    mixed = share * chosen[names[id(weight)]].to(weight)
                    weight.mul_(1.0 - mixed).add_(mixed * fresh)


def masks(
    where: Where,
    fraction: float,
    start: LM,
    unlearned: LM,
    run: Run,
    batch_size: int,
    *,
    kind: Kind = "grad_norm",
    rows: Sequence[Environment] = (),
) -> Masks | None:
    """Where noise goes; None for everywhere.

    ``fraction`` of all weights are chosen by ``gradient``, ``penalty`` (of this ``kind`` on the
    environments ``rows``) and ``task_vector``; a tied head goes with the embeddings.
    """
    match where:
        case "everywhere":
            return None
        case "gradient":
            return _largest(importance(start, run, batch_size), start.model, fraction)
        case "penalty":
            pull = pulled(unlearned, run, kind, rows, batch_size)
            return _largest(pull, start.model, fraction)
        case "task_vector":
            pairs = zip(start.model.parameters(), unlearned.model.parameters(), strict=True)
            moved = torch.cat([(b - a).detach().abs().float().reshape(-1) for a, b in pairs])
            return _largest(moved, start.model, fraction)
        case "blocks" | "embeddings" | "head":
            return _part(where, start.model)
        case _:
            assert_never(where)


def _part(where: str, model: Any) -> Masks:
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight

    def inside(weight: Tensor) -> bool:
        if where == "embeddings":
            return weight is embedding
        if where == "head":
            return weight is head
        return weight is not embedding and weight is not head

    return {
        name: (torch.ones_like if inside(weight) else torch.zeros_like)(weight.detach())
        for name, weight in model.named_parameters()
    }


def _largest(scores_P: Tensor, model: nn.Module, fraction: float) -> Masks:
    """The ``fraction`` of entries with the largest scores; ties are all taken."""
    count = max(1, round(fraction * scores_P.numel()))
    least = scores_P.kthvalue(scores_P.numel() - count + 1).values
    pieces = (scores_P >= least).split([weight.numel() for weight in model.parameters()])
    return {
        name: piece.view_as(weight)
        for (name, weight), piece in zip(model.named_parameters(), pieces, strict=True)
    }


BATCHES = 16


def importance(lm: LM, run: Run, batch_size: int) -> Tensor:
    """Squared gradients of the harmful answers' loss over those of the kept answers' loss, (P,).

    Each is a mean over up to :data:`BATCHES` batches, as many as the budget affords; the mean of
    the second over all weights is added to it, so that a weight that nothing uses is not at the
    top. What is looked at is charged.

    Source: Foster et al. 2023, arXiv:2308.07707 (the ratio of the two Fisher diagonals).
    Departs: gradients of batches, not of single examples.
    """
    harmful = _squared(lm, run, run.data.harmful, batch_size, "harmful")
    kept = _squared(lm, run, run.data.retain, batch_size, "retain")
    return harmful / (kept + kept.mean()).clamp(min=1e-30)


def _squared(lm: LM, run: Run, examples: Sequence[Example], batch_size: int, role: str) -> Tensor:
    weights = list(lm.model.parameters())
    total = torch.zeros(sum(weight.numel() for weight in weights), device=lm.device)
    flags = [weight.requires_grad for weight in weights]
    stream = cycle(
        lm,
        examples,
        batch_size=batch_size,
        rng=run.rng(f"attribution {role}"),
        role=role,
        packed=True,
    )
    price = 6.0 * lm.parameters_in_matmuls()
    taken = 0
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for batch in _affordable(run, stream, price):
            loss = cross_entropy(_logits(lm.model, batch), batch.labels)
            total += gradient(loss, weights).square()
            taken += 1
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.requires_grad_(flag)
    return total / max(1, taken)


def pulled(lm: LM, run: Run, kind: Kind, rows: Sequence[Environment], batch_size: int) -> Tensor:
    """How hard a penalty pulls each weight: the size of its gradient where ``lm`` stands, (P,).

    The gradient is summed over up to :data:`BATCHES` draws of a batch from every environment, as
    many as the budget affords, and what is looked at is charged. With ``grad_norm`` and the forget
    set as environment it is large where the slope along which the hazard is learned again depends
    most on a weight.
    """
    penalty = Penalty(kind=kind)
    text, at = streams(lm, run, rows, batch_size), places(lm, run, rows)
    size = lm.parameters_in_matmuls()
    with trainable(lm, "full") as ready:
        price = penalty.price(exact("auto", ready.weights))
        a_token = (1.0 + price.passes) * ready.flops_per_token + price.forwards * 2.0 * size
        for batches in _drawn(run, text, a_token):
            penalty.add(lm.model, at(batches, 0), 1.0, no_forget)
        found = [torch.zeros_like(w) if w.grad is None else w.grad for w in ready.weights]
        return torch.cat([grad.detach().float().abs().reshape(-1) for grad in found])


def _drawn(
    run: Run, text: Mapping[str, Iterator[Batch]], price: float
) -> Iterator[dict[str, Batch]]:
    """Up to :data:`BATCHES` times a batch of every stream, charged at ``price`` a token."""
    for _ in range(BATCHES):
        batches = {name: next(stream) for name, stream in text.items()}
        tokens = sum(batch.tokens for batch in batches.values())
        ids = {one for batch in batches.values() for one in batch.ids}
        cost = {"tokens": tokens, "examples": ids, "flops": price * tokens}
        if not run.affords(**cost):
            return
        run.charge(**cost)
        yield batches


def no_forget() -> Tensor:
    """In the place of a forget term, for penalties that have none."""
    raise RuntimeError("undo has no forget term beside its base's")


def _affordable(run: Run, stream: Iterator[Batch], price: float) -> Iterator[Batch]:
    for batch, _ in zip(stream, range(BATCHES), strict=False):
        cost = {"tokens": batch.tokens, "examples": set(batch.ids), "flops": price * batch.tokens}
        if not run.affords(**cost):
            return
        run.charge(**cost)
        yield batch


def _logits(model: Any, batch: Batch) -> Tensor:
    return model(**batch.inputs(), use_cache=False).logits
