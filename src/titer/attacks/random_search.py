"""Search at random in a small subspace of the weights, without any gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Run
from titer.nn.edits import linears
from titer.nn.reach import of_matrices, tell
from titer.train.batches import Drawn, encode_all, pack
from titer.train.objectives import answer_losses

__all__ = ["CARD", "RandomSearch"]

_FASTER, _SLOWER = 1.5, 1.5**-0.25
"""Step sizes rise by the one after a success and fall by the other after a failure, which is even
where one trial in five succeeds."""


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """A (1+1) evolution strategy on the loss of harmful answers; a step is a trial.

    The subspace is that of ``rank`` random directions of rank one for each matrix inside the
    blocks: W + sum_k z_k s u_k v_k', s the standard deviation of W, so that a coordinate of
    z is a change relative to the matrix. A trial moves all of z by normal noise of size ``sigma``
    at first, and is kept where the loss on ``examples`` harmful pairs falls. It sees losses and
    never a gradient: where it does better than gradients do, these are masked.

    Source: Rechenberg 1973 (the strategy and its rule of one in five); the use as a check on
    gradients is Athalye et al. 2018, arXiv:1802.00420, and Carlini et al. 2019, arXiv:1902.06705.
    """

    rank: int = 4
    sigma: float = 0.1
    examples: int = 64

    def __post_init__(self) -> None:
        if self.rank < 1 or self.examples < 1 or not 0 < self.sigma < math.inf:
            raise BadInput(
                f"random_search: rank={self.rank}, sigma={self.sigma}, examples={self.examples}; "
                "all three must be positive."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        pairs = run.data.harmful
        rng = run.rng("examples")
        picked = rng.sample(list(pairs), min(self.examples, len(pairs)))
        batch = pack(lm, [Drawn(tuple(encode_all(lm, picked, role="harmful")))])
        flops = 2.0 * lm.parameters_in_matmuls() * batch.tokens
        out = lm.clone()
        tell(run, of_matrices(lm.model).share, "weights of the blocks")
        chance = torch.Generator().manual_seed(run.rng("directions").getrandbits(62))
        plane = _Plane(out, self.rank, chance)
        place = torch.zeros(plane.size)
        sigma, best = self.sigma, math.inf
        with torch.no_grad():
            while not run.exhausted() and run.affords(
                tokens=batch.tokens, examples=batch.ids, flops=flops
            ):
                # The first trial is the model as it is.
                first = best == math.inf
                noise = torch.randn(plane.size, generator=chance)
                trial = place if first else place + sigma * noise
                plane.put(trial)
                loss = float(answer_losses(out.model, batch).sum())
                better = loss < best  # never where it is not a number
                place, best = (trial, loss) if better else (place, best)
                if not first:
                    sigma *= _FASTER if better else _SLOWER
                run.charge(steps=1, tokens=batch.tokens, examples=batch.ids, flops=flops)
                if run.due():
                    plane.put(place)
                    run.look(out)
        plane.put(place)
        return out


class _Plane:
    """Random directions of a model's matrices; ``put`` sets the weights to a place among them."""

    def __init__(self, lm: LM, rank: int, chance: torch.Generator) -> None:
        self.rank = rank
        self.parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for linear in linears(lm.model):
            weight = linear.weight_OI
            rows, columns = weight.shape
            left = torch.randn(rows, rank, generator=chance)
            right = torch.randn(rank, columns, generator=chance)
            scale = float(weight.float().std())
            self.parts.append((weight, weight.clone(), scale * left, right))

    @property
    def size(self) -> int:
        return self.rank * len(self.parts)

    def put(self, place: Tensor) -> None:
        for (weight, start, left, right), own in zip(
            self.parts, place.split(self.rank), strict=True
        ):
            moved = (left * own) @ right
            weight.copy_(start + moved.to(start))


CARD = Card(
    kind="attack",
    build=RandomSearch,
    source="arXiv:1802.00420, arXiv:1902.06705, titer",
    summary="random search in a small subspace of the weights; sees losses and no gradient",
    family="weights",
    access="weights",
)
