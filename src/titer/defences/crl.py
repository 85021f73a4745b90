"""Contrastive representation learning: benign states stay, harmful ones leave and gather apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titer.core.config import hidden_size
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.hooks import blocks, residual_stream
from titer.nn.trainable import Parameters
from titer.train.batches import IGNORED, Batch, Bundle
from titer.train.grads import still
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.objectives import cross_entropy, kl_to, single

__all__ = ["CARD", "CRL", "PRESETS", "distance"]

Distance = Literal["cosine", "euclidean"]


def distance(one: Tensor, other: Tensor, kind: Distance) -> Tensor:
    """``1 − cos`` or the Euclidean distance, over the last axis."""
    one, other = single(one), single(other)
    if kind == "cosine":
        return 1.0 - F.cosine_similarity(one, other, dim=-1)
    return torch.linalg.vector_norm(one - other, dim=-1)


@dataclass(frozen=True, kw_only=True)
class CRL:
    """``α relu(d(b, b⁰) − d(b, c) + m₁) + β relu(d(h, c) − d(h, h⁰) + m₂) + γ KL(start ‖ model)``.

    ``b`` and ``h`` are the states of benign and harmful answers after the blocks from the share
    ``from_depth`` on, ``b⁰`` and ``h⁰`` those of the start, and ``c`` the mean of the harmful ones
    in the batch, through which the gradient flows. The divergence is at benign answers' tokens.

    With ``negatives`` above 0, every so many steps a linear residual layer, nothing at first, is
    put after a block of the first third and trained alone for ``negative_steps`` to bring the
    harmful answers back; with the chance ``chance`` a step's harmful pass then runs with it, if the
    last ten losses of that training were below ``ready`` on average.

    Source: Simko et al. 2025, arXiv:2506.11938 (Triplet); the defaults are TamperBench's settings,
    hard negatives are its repository's.
    Departs: divergence is a mean over tokens, where the repository divides by rows; the hard
    negative is trained on the step's own harmful batch.
    """

    benign: float = 0.5
    harmful: float = 0.4
    kept: float = 0.9
    benign_margin: float = 0.3
    harmful_margin: float = 0.5
    benign_distance: Distance = "cosine"
    from_depth: float = 0.625
    negatives: int = 0
    negative_steps: int = 1100
    negative_lr: float = 1e-4
    chance: float = 0.25
    ready: float = 3.0
    lr: float = 1e-5
    batch_size: int = 16
    weight_decay: float = 0.0
    parameters: Parameters = "lora"
    rank: int = 16
    alpha: float = 16.0

    def __post_init__(self) -> None:
        known = (self.benign, self.harmful, self.kept, self.negative_lr)
        if not all(0 <= value < math.inf for value in known):
            raise BadInput("crl: benign, harmful, kept and negative_lr must not be negative.")
        if not 0 <= self.from_depth < 1 or not 0 <= self.chance <= 1:
            raise BadInput(
                f"crl: from_depth={self.from_depth} and chance={self.chance} are shares."
            )
        if self.negatives < 0 or self.negative_steps < 1:
            raise BadInput("crl: negatives is at least 0, negative_steps at least 1.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        more = self.negative_steps / self.negatives * 2 / 3 if self.negatives else 0.0
        sources = {
            "harmful": Source(examples=run.data.harmful),
            "retain": Source(examples=run.data.retain),
        }
        return harden(
            lm,
            run,
            Training.of(self),
            sources,
            lambda _ready: [Phase(grad=self._gradient(lm, run), passes={"harmful": more})],
            frozen=("harmful", "retain"),
        )

    def _gradient(self, lm: LM, run: Run) -> Any:
        rng, begun = run.rng("negatives"), run.spent.steps
        hard: tuple[int, Tensor] | None = None

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            nonlocal hard
            if self.negatives and (run.spent.steps - begun) % self.negatives == 0:
                layer = rng.randrange(max(1, len(blocks(model)) // 3))
                with still(model):
                    hard = self._harden(model, bundle["harmful"], layer)
            chosen = hard if hard is not None and rng.random() < self.chance else None
            loss = self.loss(lm.model, model, bundle, chosen)
            loss.backward()
            return {"loss": float(loss.detach())}

        return grad

    def loss(
        self, start: Any, model: Any, bundle: Bundle, hard: tuple[int, Tensor] | None = None
    ) -> Tensor:
        """The three terms on a bundle, the harmful pass with a hard negative's layer, if given."""
        first = int(self.from_depth * len(blocks(model))) + 1  # 0 is what enters the first block
        with torch.no_grad():
            (benign_then, _), (harmful_then, _) = (
                _states(start, bundle[role], first) for role in ("retain", "harmful")
            )
            reference = logits(start, bundle["retain"])
        benign_now, out = _states(model, bundle["retain"], first)
        with _residual(model, hard):
            harmful_now, _ = _states(model, bundle["harmful"], first)
        terms: list[Tensor] = []
        for b, b0, h, h0 in zip(benign_now, benign_then, harmful_now, harmful_then, strict=True):
            centre = h.mean(0, keepdim=True)
            stays = distance(b, b0, self.benign_distance) - distance(b, centre, "cosine")
            leaves = distance(h, centre, "cosine") - distance(h, h0, "cosine")
            terms.append(
                self.benign * (stays + self.benign_margin).relu().mean()
                + self.harmful * (leaves + self.harmful_margin).relu().mean()
            )
        found = torch.stack(terms).mean()
        if self.kept:
            found = found + self.kept * kl_to(reference, out, bundle["retain"].labels)
        return found

    def _harden(self, model: Any, batch: Batch, layer: int) -> tuple[int, Tensor] | None:
        """A residual layer that brings the harmful answers back, if it does."""
        width = hidden_size(model.config)
        first = next(model.parameters())
        matrix = torch.zeros(width, width, device=first.device, dtype=first.dtype)
        matrix.requires_grad_(True)
        stepper = torch.optim.AdamW([matrix], lr=self.negative_lr, weight_decay=0.0)
        losses: list[float] = []
        for _ in range(self.negative_steps):
            with _residual(model, (layer, matrix)):
                loss = cross_entropy(logits(model, batch), batch.labels)
            (matrix.grad,) = torch.autograd.grad(loss, matrix)
            stepper.step()
            losses.append(float(loss.detach()))
        last = losses[-10:]
        return (layer, matrix.detach()) if sum(last) / len(last) < self.ready else None


def _states(model: Any, batch: Batch, first: int) -> tuple[list[Tensor], Tensor]:
    """The answers' states (N, D) from a place of the stream on, and the logits."""
    with residual_stream(model) as stream:
        out = logits(model, batch)
    mask = batch.labels != IGNORED
    return [state[mask] for state in stream[first:]], out


@contextmanager
def _residual(model: Any, hard: tuple[int, Tensor] | None) -> Iterator[None]:
    """Inside, ``h + h Wᵀ`` leaves a block instead of ``h``."""
    if hard is None:
        yield
        return
    layer, matrix = hard

    def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + output[0] @ matrix.T, *output[1:])
        return output + output @ matrix.T

    handle = blocks(model)[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


PRESETS = {
    "crl-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "batch_size": 32, "from_depth": 0.3},
        steps=(200, 1100),
        source="titer",
    ),
    "crl-paper": Preset(
        title="as TamperBench runs it", fields={}, steps=(200, 1100), source="arXiv:2602.06911"
    ),
    "crl-code": Preset(
        title="as its repository's script runs it",
        fields={
            "lr": 1e-4,
            "harmful": 0.6,
            "kept": 0.7,
            "benign_margin": 2.0,
            "harmful_margin": 3.0,
            "benign_distance": "euclidean",
        },
        steps=(200, 900),
        source="arXiv:2506.11938, repository",
    ),
    "crl-negatives": Preset(
        title="with hard negatives, at testbed size",
        fields={
            "lr": 1e-3,
            "batch_size": 32,
            "from_depth": 0.3,
            "negatives": 40,
            "negative_steps": 60,
            "negative_lr": 1e-2,
        },
        steps=(200, 1100),
        source="arXiv:2506.11938, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=CRL,
    source="arXiv:2506.11938",
    summary="benign states stay, harmful ones leave their place and gather apart",
    family="representation",
    departures="divergence by token; hard negatives on the step's own batch. Data: hazard, "
    "retain; see that the harmful answers do not refuse. 2 passes + 2 forwards a step. Claims "
    "resistance to inputs. Known breakers: weight attacks (arXiv:2602.06911); ablation of "
    "directions and the public base are untested there. Degenerate answers count as success in "
    "its own evaluation",
    presets=PRESETS,
)
