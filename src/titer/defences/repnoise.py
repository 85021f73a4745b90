"""Representation noising: hazardous activations become noise at every depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.head import final_norm
from titer.nn.hooks import residual_stream
from titer.nn.taps import outputs, sites, tapped
from titer.nn.trainable import Parameters
from titer.train.batches import IGNORED, Batch, Bundle
from titer.train.harden import Phase, Training, aligned, harden, logits, safe_loss
from titer.train.loop import descend
from titer.train.objectives import cross_entropy, single

__all__ = ["CARD", "PRESETS", "RepNoise", "mmd", "noised", "through_depth"]

_KERNELS = 5


def mmd(left_BF: Tensor, right_BF: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two samples, biased, with five Gaussian kernels.

    Bandwidths are the mean squared distance of two different rows of either sample, detached, times
    1/4, 1/2, 1, 2 and 4.

    Args:
        left_BF: (B, F), B at least 2.
        right_BF: as many rows of the same width.
    """
    both = torch.cat([left_BF, right_BF])
    distances = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").pow(2)
    rows = len(both)
    width = (distances.detach().sum() / (rows * rows - rows)).clamp(min=1e-12)
    powers = 2.0 ** torch.arange(_KERNELS, device=both.device) / 2.0 ** (_KERNELS // 2)
    kernel = torch.exp(-distances[None] / (width * powers[:, None, None])).sum(0)
    cut = len(left_BF)
    return kernel[:cut, :cut].mean() - 2 * kernel[:cut, cut:].mean() + kernel[cut:, cut:].mean()


def through_depth(model: Any, norm: Any, states: Sequence[Tensor], batch: Batch) -> Tensor:
    """The answers' cross-entropy, mean over depths, read by the final norm and the head."""
    head = model.get_output_embeddings()
    return torch.stack([cross_entropy(head(norm(h)), batch.labels) for h in states]).mean()


@dataclass(frozen=True, kw_only=True)
class RepNoise:
    """``CE(refusals) + noise · mean_l MMD²(MLP outputs of harmful answers, noise) − ascent ·
    log(1 + C̄)``, ``C̄`` the harmful answers' cross-entropy read off after every block.

    ``retain_weight`` adds the cross-entropy of retain text, 0 in the paper.

    Source: Rosati et al. 2024, arXiv:2405.14577, weights from its repository; its README asks for
    a search of both on every model.
    Departs: only labels mask, where the repository multiplies logits by the mask of their own
    place, so that an answer's first token, and any after a chance match, has no gradient; the last
    state is read once, where the repository norms it twice and counts it twice; the masked tokens
    are the harmful answer's, which with a shared prompt are those in which the pair differs.
    """

    noise: float = 0.001
    ascent: float = 1.0
    retain_weight: float = 0.0
    lr: float = 2e-5
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    resumes = False

    def __post_init__(self) -> None:
        if not all(0 <= w < math.inf for w in (self.noise, self.ascent, self.retain_weight)):
            raise BadInput("repnoise: noise, ascent and retain_weight must not be negative.")
        if self.batch_size < 2:
            raise BadInput(
                f"repnoise: batch_size={self.batch_size}; a distance between samples needs 2."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        if len(run.data.harmful) < 2:
            raise BadInput("repnoise: a distance between samples needs two harmful examples.")
        draw = torch.Generator().manual_seed(run.rng("noise").getrandbits(62))

        places = sites(lm.model, "mlp")
        last = final_norm(lm.model) if self.ascent else None
        norm = next((name for name, part in lm.model.named_modules() if part is last), "")

        def loss(model: Any, bundle: Bundle) -> Tensor:
            found = safe_loss(model, bundle, self.retain_weight)
            batch = bundle["harmful"]
            with outputs(tapped(model, places)) as states, residual_stream(model) as stream:
                logits(model, batch)
            if self.noise:
                found = found + self.noise * noised(states, batch, draw)
            if self.ascent:
                depth = through_depth(model, model.get_submodule(norm), stream, batch)
                found = found - self.ascent * torch.log1p(depth)
            return found

        return harden(
            lm,
            run,
            Training.of(self),
            aligned(run, self.retain_weight),
            lambda _ready: [Phase(grad=descend(loss))],
        )


def noised(states: Sequence[Tensor], batch: Batch, draw: torch.Generator) -> Tensor:
    """Mean over blocks of the distance of answers' activations from Gaussian noise."""
    mask = (batch.labels != IGNORED)[..., None]
    found: list[Tensor] = []
    for output in states:
        state = output.reshape(*batch.labels.shape, -1)  # some hand rows on end to end (OPT)
        noise = torch.randn(state.shape, generator=draw).to(state)
        pair = [(single(values) * mask).flatten(1) for values in (state, noise)]
        found.append(mmd(*pair))
    return torch.stack(found).mean()


PRESETS = {
    "repnoise-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 5e-4, "batch_size": 32, "retain_weight": 1.0},
        steps=(250, 1000),
        source="titer",
    ),
    "repnoise-paper": Preset(
        title="Llama-2-7B-chat", fields={}, steps=(250, 2500), source="arXiv:2405.14577"
    ),
    "repnoise-code": Preset(
        title="as the repository of Booster runs it",
        fields={"ascent": 0.1, "lr": 5e-4, "batch_size": 5, "parameters": "lora"},
        steps=(250, 2500),
        source="arXiv:2409.01586, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=RepNoise,
    source="arXiv:2405.14577",
    summary="hazardous activations become noise and their answers unlikely at every depth",
    family="representation",
    departures="labels mask, not logits; the last state counts once. Data: hazard with "
    "refusals. 2 passes a step and a head product a block. Claims resistance within the hazard "
    "it was shown. Known breakers: rates from 8e-5 up (arXiv:2505.12186), seeds and formats "
    "(arXiv:2412.07097)",
    presets=PRESETS,
)
