"""A trainer that keeps away from chosen directions: for training that the provider runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.edits import linears
from titer.nn.reach import note, of_matrices
from titer.nn.trainable import trainable
from titer.train.batches import cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss
from titer.train.optimisers import Optimiser

__all__ = ["CARD", "PRESETS", "Policy", "PolicyLock", "locked_directions"]


class Policy:
    """``θ ← θ₀ + (I − Q Qᵀ)(θ − θ₀)`` after every step, whatever optimiser took it.

    ``directions`` pairs a matrix, output axis first, with ``Q`` (O, K) whose columns are
    orthonormal. The update is projected and not the gradient: AdamW divides element by element and
    decays weights, and with a projected gradient it leaves the subspace at its first step.
    """

    def __init__(self, directions: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._kept = [(weight, q.double(), weight.detach().clone()) for weight, q in directions]

    @torch.no_grad()
    def enforce(self) -> None:
        """Take out of each matrix what its update has in the locked directions."""
        for weight, q_OK, start in self._kept:
            change = weight.double() - start.double()
            weight.copy_((start.double() + change - q_OK @ (q_OK.T @ change)).to(weight.dtype))

    def leak(self) -> float:
        """The largest ``‖Qᵀ(θ − θ₀)‖`` of any matrix."""
        return max(
            (
                float((q.T @ (w.detach().double() - start.double())).norm())
                for w, q, start in self._kept
            ),
            default=0.0,
        )


def locked_directions(lm: LM, run: Run, rank: int, batch_size: int) -> dict[str, Tensor]:
    """For every matrix of the blocks, the output directions (O, K) in which training on the hazard
    would move it most: the leading left singular vectors of its gradients side by side.

    As many batches as the hazard fills once and the budget affords; none where it affords none.
    """
    model = lm.clone()
    maps = linears(model.model)
    # Σ G Gᵀ has the left singular vectors of all gradients side by side.
    sums = {linear.path: torch.zeros((), dtype=torch.float64) for linear in maps}
    batches = -(-len(run.data.harmful) // batch_size)
    price = 6.0 * lm.parameters_in_matmuls()
    stream = cycle(
        model, run.data.harmful, batch_size=batch_size, rng=run.rng("order policy"), role="harmful"
    )
    for batch in islice(stream, batches):
        bill = {"tokens": batch.tokens, "examples": set(batch.ids)}
        if not run.affords(flops=price * batch.tokens, **bill):
            break
        run.charge(flops=price * batch.tokens, **bill)
        model.model.zero_grad()
        answer_loss(model.model, batch).backward()
        for linear in maps:
            if linear.weight.grad is None:  # an expert that no token went to
                continue
            grad_OI = linear.part(linear.weight.grad).double()
            sums[linear.path] = sums[linear.path] + grad_OI @ grad_OI.T
    return {
        path: torch.linalg.eigh(total).eigenvectors[:, -rank:]
        for path, total in sums.items()
        if total.dim() == 2
    }


@dataclass(frozen=True, kw_only=True)
class PolicyLock:
    """Fine-tune on ``job`` as a provider would for a customer, with chosen directions locked.

    **For training that the provider runs, and for nothing else.** On open weights this protects
    nothing at all: whoever has them trains without it. What comes out is an ordinary model without
    a trace of the lock.

    The provider finds, for every matrix of the blocks, the ``rank`` output directions in which
    training on the hazard would move it most, and takes them out of every update. ``job`` is what
    the customer sends: ``retain`` benign text, ``harmful`` the hazard itself. Only the matrices of
    the blocks train, each with its directions locked.

    Guarantee: ``Qᵀ(θ_t − θ₀) = 0`` within rounding, for any optimiser and weight decay, while this
    trainer runs. Not guaranteed: that the hazard cannot be learned in the directions that are left,
    or anything once the weights are handed out. Bypass: have the weights, or a job that needs no
    locked direction.

    Source: titer.
    """

    rank: int = 8
    job: Literal["retain", "harmful"] = "retain"
    lr: float = 2e-5
    optimiser: Optimiser = "adamw"
    batch_size: int = 16
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.batch_size < 1 or not 0 < self.lr < math.inf:
            raise BadInput(
                f"policy_lock: rank={self.rank}, batch_size={self.batch_size}, lr={self.lr}; "
                "all three must be positive."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        out = lm.clone()
        if not run.affords():
            return out
        note(run, of_matrices(lm.model).share, "weights of the blocks")
        found = locked_directions(lm, run, self.rank, self.batch_size)
        if not found:
            return out
        maps = linears(out.model)
        policy = Policy(
            (linear.weight_OI, found[linear.path]) for linear in maps if linear.path in found
        )
        names = tuple(dict.fromkeys(linear.home for linear in maps))
        jobs = cycle(
            out,
            run.data.retain if self.job == "retain" else run.data.harmful,
            batch_size=self.batch_size,
            rng=run.rng("order job"),
            role=self.job,
        )
        with trainable(out, "full", modules=names) as ready:
            fit(
                out,
                descend(answer_loss),
                jobs,
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=self.lr,
                    optimiser=self.optimiser,
                    weight_decay=self.weight_decay,
                    flops_per_token=ready.flops_per_token,
                    after=policy.enforce,
                ),
                steps=run.steps_left(),
            )
        return out


PRESETS = {
    "policy_lock-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3},
        steps=(200, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=PolicyLock,
    source="titer",
    summary="provider-run training with directions locked; protects nothing on open weights",
    family="lock",
    presets=PRESETS,
)
