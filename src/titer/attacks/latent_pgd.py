"""A bounded push on the residual stream at several depths, found by projected gradient descent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.core.config import hidden_size
from titer.core.config import layers as layers_of
from titer.method import LM, BadInput, Card, Diverged, Preset, Run
from titer.nn.directions import positions, steer, steerable, steering
from titer.nn.reach import tell
from titer.train.batches import IGNORED, Batch, cycle
from titer.train.objectives import answer_loss

__all__ = ["CARD", "PRESETS", "LatentPGD"]


@dataclass(frozen=True, kw_only=True)
class LatentPGD:
    """One vector after each block at ``depths`` (shares of the blocks), added at every token, that
    makes the answers of harmful prompts likely.

    A vector is no longer than ``radius`` times the typical length of the residual stream there, the
    median over the last tokens of the first batch's prompts. A step goes ``pace · radius / steps``
    typical lengths down the normalised gradient and is projected back onto the ball. The vectors
    end up in the weights as biases, see :func:`~titer.nn.directions.steer`; an architecture that
    can save none has all of them added to its token embedding.

    Source: Che et al. 2025, arXiv:2502.05209 (latent-space attack); PGD, Madry et al. 2017,
    arXiv:1706.06083.
    Departs: one push for all requests, so that the result is an ordinary model and no answer of a
    held-out request is read, where the source perturbs each input; Euclidean balls.
    """

    radius: float = 1.0
    depths: tuple[float, ...] = (0.25, 0.5, 0.75)
    pace: float = 2.5
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not (0 < self.radius < math.inf and 0 < self.pace < math.inf and self.batch_size >= 1):
            raise BadInput(
                f"latent_pgd: radius={self.radius}, pace={self.pace}, batch_size="
                f"{self.batch_size}; all three must be positive."
            )
        if not self.depths or not all(0 <= depth < 1 for depth in self.depths):
            raise BadInput(
                f"latent_pgd: depths={self.depths}; give at least one, as shares from 0 to below 1."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if run.exhausted() or (steps := run.steps_left()) < 1:
            return lm.clone()
        layers = sorted({int(depth * layers_of(lm.model.config)) for depth in self.depths})
        share = min(steerable(lm, layer) for layer in layers)
        tell(run, share, "push on the residual stream")
        price = 4.0 * lm.parameters_in_matmuls()
        typical: Tensor | None = None
        pushes = torch.zeros(len(layers), hidden_size(lm.model.config), device=lm.device)
        for batch in self._batches(lm, run):
            measured = typical is not None
            spent = {
                "tokens": batch.tokens,
                "examples": batch.ids,
                "flops": (price if measured else 1.5 * price) * batch.tokens,
            }
            if run.exhausted() or not run.affords(**spent):
                break
            if typical is None:
                typical = _lengths(lm, batch)[layers, None]
            loss, slopes = _slopes(lm, layers, pushes, batch)
            if not (math.isfinite(loss) and bool(torch.isfinite(slopes).all())):
                raise Diverged(f"latent_pgd: the loss is {loss}; lower the radius.")
            pace = self.pace * self.radius / steps
            unit = slopes / slopes.norm(dim=1, keepdim=True).clamp(min=1e-20)
            pushes = _inside(pushes - pace * typical * unit, self.radius * typical)
            run.charge(steps=1, **spent)
            run.log(loss)
            if run.due():
                run.look(_pushed(lm, layers, pushes))
        return _pushed(lm, layers, pushes) if typical is not None else lm.clone()

    def _batches(self, lm: LM, run: Run) -> Iterator[Batch]:
        rng = run.rng("order")
        return cycle(lm, run.data.harmful, batch_size=self.batch_size, rng=rng, role="harmful")


def _inside(vectors_LD: Tensor, radius_L1: Tensor) -> Tensor:
    """Each vector, shortened to its radius where it is longer."""
    length = vectors_LD.norm(dim=1, keepdim=True).clamp(min=1e-20)
    return vectors_LD * (radius_L1 / length).clamp(max=1.0)


def _lengths(lm: LM, batch: Batch) -> Tensor:
    """The median length of the residual stream after each block, at the prompts' ends; (L,)."""
    ends = (batch.labels != IGNORED).int().argmax(-1)
    places = torch.arange(batch.input_ids.shape[1], device=lm.device)
    mask = (places < ends[:, None]).long()
    found = positions(lm.model, {"input_ids": batch.input_ids, "attention_mask": mask}, 1)
    return found[:, :, 0].norm(dim=-1).median(0).values


def _slopes(lm: LM, layers: list[int], pushes_LD: Tensor, batch: Batch) -> tuple[float, Tensor]:
    """The answers' loss under the pushes, and its gradient with respect to them."""
    leaf = pushes_LD.detach().requires_grad_(True)
    with ExitStack() as held:
        for layer, push_D in zip(layers, leaf, strict=True):
            held.enter_context(steering(lm.model, layer, push_D))
        loss = answer_loss(lm.model, batch)
        (slopes,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), slopes


def _pushed(lm: LM, layers: list[int], pushes_LD: Tensor) -> LM:
    out = lm.clone()
    for layer, push_D in zip(layers, pushes_LD, strict=True):
        steer(out, layer, push_D)
    return out


PRESETS = {
    "I03": Preset(
        family="input",
        title="a bounded push on the residual stream at three depths",
        fields={"radius": 1.0},
        steps=(16, 16),
        source="arXiv:2502.05209",
    ),
}

CARD = Card(
    kind="attack",
    build=LatentPGD,
    source="arXiv:2502.05209, arXiv:1706.06083",
    summary="projected gradient descent on the residual stream, saved as biases; weights frozen",
    family="input",
    access="activation",
    departures="one push for all requests, not one for each; Euclidean balls",
    presets=PRESETS,
)
