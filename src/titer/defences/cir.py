"""CIR: the hazard's update, without the directions that other text uses too.

N tokens, I input and O output of a matrix, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.edits import Linear, linears
from titer.nn.hooks import blocks, residual
from titer.nn.taps import factors, outputs, sites, tapped
from titer.nn.weights import named_matrices
from titer.train.batches import Batch, Bundle, cycle
from titer.train.grads import still
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.objectives import answer_loss, single

__all__ = ["CARD", "CIR", "PRESETS", "Common", "aligned_outputs"]


def aligned_outputs(now_BTD: Tensor, then_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """``mean relu(⟨o, o₀⟩) / (mean ‖o₀‖)²`` over real tokens: about 1 where nothing moved, 0 with
    no gradient once they are orthogonal."""
    product = (single(now_BTD) * single(then_BTD)).sum(-1).relu()
    count = mask_BT.sum().clamp(min=1)
    size = (torch.linalg.vector_norm(single(then_BTD), dim=-1) * mask_BT).sum() / count
    return (product * mask_BT).sum() / count / size.pow(2).clamp(min=1e-12)


@dataclass
class Common:
    """What vectors (N, D) have in common: their mean and leading components, gathered over an epoch
    and used in the next."""

    count: int = 0
    total: Tensor | None = None
    second: Tensor | None = None
    basis: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, x_ND: Tensor) -> None:
        """Gather more vectors."""
        sums, squares = x_ND.sum(0), x_ND.T @ x_ND
        self.count += len(x_ND)
        self.total = sums if self.total is None else self.total + sums
        self.second = squares if self.second is None else self.second + squares

    def close(self, components: int) -> None:
        """End the epoch: the mean, if it is one, and ``components`` of the covariance."""
        if self.total is None or self.second is None:
            return
        mean = self.total / self.count
        spread = self.second / self.count - torch.outer(mean, mean)
        size = float(mean.norm())
        self.basis = [mean / size] if size > 0 else []
        if components:
            vectors = torch.linalg.eigh(spread)[1]
            self.basis += list(vectors[:, -components:].T.flip(0))
        self.count, self.total, self.second = 0, None, None

    def without(self, x_ND: Tensor) -> Tensor:
        """The vectors with the mean's direction taken out, then each component."""
        for direction in self.basis:
            x_ND = x_ND - (x_ND @ direction)[:, None] * direction
        return x_ND


@dataclass(frozen=True, kw_only=True)
class CIR:
    """Turn the MLP outputs of hazardous text away from what they were, by an update from which
    common directions are taken out on both sides.

    In blocks between ``depths`` (shares) the gradient of each matrix in ``modules`` is ``Σ g aᵀ``
    over tokens; of the inputs a the mean and ``inputs`` leading components of the epoch before are
    taken out, of the output gradients g the mean and ``gradients``. The whole step has the length
    ``lr``. Beside it, plain SGD at ``retain_lr`` holds the state after the last of these blocks on
    retain text. The first epoch only gathers. Once the loss on ``probe`` retain examples is above
    ``limit`` times that of the start, nothing moves any more, and that is flagged.

    Source: arXiv:2509.11816 and its repository, settings for Llama-3.2-1B.
    Departs: exact components, which take memory of D² a matrix, where the repository finds them by
    random projection; the first token of every row is left out, and no last one.
    """

    modules: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj", "mlp.c_fc", "mlp.c_proj")
    depths: tuple[float, float] = (0.375, 0.75)
    inputs: int = 23
    gradients: int = 35
    retain_lr: float = 3e-4
    limit: float = 1.001
    probe: int = 128
    lr: float = 0.2
    batch_size: int = 32
    weight_decay: float = 0.0
    parameters: Literal["full"] = "full"
    rank: int = 16
    alpha: float = 32.0

    resumes = False

    def __post_init__(self) -> None:
        low, high = self.depths
        if not 0 <= low < high <= 1 or not self.modules:
            raise BadInput(f"cir: depths={self.depths} are two rising shares, modules names.")
        if min(self.inputs, self.gradients) < 0 or self.probe < 1:
            raise BadInput("cir: inputs and gradients are at least 0, probe at least 1.")
        if not 0 <= self.retain_lr < math.inf or not self.limit > 0:
            raise BadInput("cir: retain_lr must not be negative, limit must be positive.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        count = len(blocks(lm.model))
        low, high = (round(depth * count) for depth in self.depths)
        layers = range(low, max(high, low + 1))
        names = [name for name, _ in named_matrices(lm, self.modules, layers)]
        sources = {
            "harmful": Source(examples=run.data.harmful),
            "retain": Source(examples=run.data.retain),
        }
        state = _Epochs(self, lm, run, layers, names)
        return harden(
            lm,
            run,
            Training.of(self, names),
            sources,
            lambda _ready: [Phase(grad=state.gradient)],
            frozen=("harmful", "retain"),
            optimiser="sgd",
            clip=None,
        )


class _Epochs:
    """What moves from step to step: what vectors have in common, and whether to go on."""

    def __init__(self, method: CIR, lm: LM, run: Run, layers: range, names: Sequence[str]) -> None:
        self.method, self.start, self.run, self.layers = method, lm, run, layers
        self.names, self.places = set(names), sites(lm.model, "mlp")
        self.epoch = max(1, math.ceil(len(run.data.harmful) / method.batch_size))
        self.begun, self.done = run.spent.steps, False
        self.common = {name: (Common(), Common()) for name in names}
        self.probe = next(
            cycle(
                lm,
                run.data.retain,
                batch_size=method.probe,
                rng=run.rng("probe"),
                role="retain",
                packed=True,
            )
        )
        with torch.no_grad():
            self.bound = method.limit * float(answer_loss(lm.model, self.probe))

    def maps(self, model: Any) -> list[Linear]:
        """The matrices that train."""
        return [one for one in linears(model, self.layers) if one.path in self.names]

    def gradient(self, model: Any, bundle: Bundle) -> dict[str, float]:
        """What a step of plain SGD at ``lr`` turns into both updates."""
        method, taken = self.method, self.run.spent.steps - self.begun
        if taken and taken % self.epoch == 0:
            self._close(model)
        with still(model):
            value, ways = self._turn(model, bundle["harmful"])
            if self.done or not ways:
                return {"loss": value}
            if method.retain_lr:
                (self._held(model, bundle["retain"]) * (method.retain_lr / method.lr)).backward()
        size = torch.stack([way.pow(2).sum() for way in ways.values()]).sum().sqrt()
        for one in self.maps(model):
            way = (ways[one.path] / size.clamp(min=1e-12)).to(one.weight.dtype)
            way = way.T if one.turned else way
            one.weight.grad = way if one.weight.grad is None else one.weight.grad + way
        return {"loss": value}

    def _turn(self, model: Any, batch: Batch) -> tuple[float, dict[str, Tensor]]:
        """The loss, and the filtered gradient (O, I) of each matrix, none in the first epoch."""
        mask = batch.attention_mask.clone()
        mask[:, 0] = 0
        with torch.no_grad(), outputs(tapped(self.start.model, self.places)) as then:
            logits(self.start.model, batch)
        maps = self.maps(model)
        with factors(maps) as seen, outputs(tapped(model, self.places)) as now:
            logits(model, batch)
            shape = (*mask.shape, -1)
            losses = [
                aligned_outputs(now[k].reshape(shape), then[k].reshape(shape), mask)
                for k in self.layers
            ]
            loss = torch.stack(losses).mean()
            loss.backward()
        at, ways = mask.flatten() == 1, dict[str, Tensor]()
        for one in maps:
            one.weight.grad = None  # the update is made from the factors alone
            own, theirs = (single(x.reshape(len(at), -1)[at]) for x in seen[one.path])
            inputs, gradients = self.common[one.path]
            if inputs.basis or gradients.basis:
                ways[one.path] = gradients.without(theirs).T @ inputs.without(own)
            inputs.add(own)
            gradients.add(theirs)
        return float(loss.detach()), ways

    def _held(self, model: Any, batch: Batch) -> Tensor:
        """How far the state after the last block that trains has strayed, in its typical length."""
        layer, mask = self.layers[-1], batch.attention_mask
        with torch.no_grad():
            then = single(residual(self.start.model, batch.inputs(), layer))
        moved = torch.linalg.vector_norm(
            single(residual(model, batch.inputs(), layer)) - then, dim=-1
        )
        size = (torch.linalg.vector_norm(then, dim=-1) * mask).sum()
        return (moved * mask).sum() / size.clamp(min=1e-12)

    def _close(self, model: Any) -> None:
        for inputs, gradients in self.common.values():
            inputs.close(min(self.method.inputs, _width(inputs) // 2))
            gradients.close(min(self.method.gradients, _width(gradients) // 2))
        with torch.no_grad():
            self.done = self.done or float(answer_loss(model, self.probe)) > self.bound
        if self.done and (flag := "stopped at its limit on retain text") not in self.run.flags:
            self.run.flags.append(flag)


def _width(common: Common) -> int:
    """The width of what was gathered."""
    return 0 if common.total is None else len(common.total)


PRESETS = {
    "cir-testbed": Preset(
        title="for models of about a million parameters",
        fields={"inputs": 8, "gradients": 12, "lr": 0.1, "retain_lr": 3e-2, "limit": 1.1},
        steps=(150, 1000),
        source="titer",
    ),
    "cir-paper": Preset(
        title="Llama-3.2-1B", fields={}, steps=(150, 1000), source="arXiv:2509.11816, repository"
    ),
}

CARD = Card(
    kind="defence",
    build=CIR,
    source="arXiv:2509.11816",
    summary="MLP outputs of the hazard turn away, along directions that other text does not use",
    family="unlearning",
    departures="exact components, at most half of a matrix's width. Data: hazard, retain. 2 "
    "passes + 2 forwards a step. Claims resistance to relearning and stability. Known breakers: "
    "none published; only relearning by SGD at one rate was tested",
    presets=PRESETS,
)
