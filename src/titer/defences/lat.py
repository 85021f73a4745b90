"""Latent adversarial training: good answers under the worst push on hidden states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.core.config import hidden_size
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.hooks import blocks
from titer.nn.taps import pushed
from titer.nn.trainable import Parameters
from titer.train.batches import IGNORED, Batch, Bundle
from titer.train.grads import still
from titer.train.harden import Phase, Source, Training, aligned, harden, logits
from titer.train.latent import Ball, descended
from titer.train.objectives import cross_entropy, token_losses
from titer.train.unlearn import Retain, retain_loss

__all__ = ["CARD", "LAT", "PRESETS", "away"]


def away(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """``−mean log(1 − p)`` of the supervised tokens: it pushes an answer off, and fades once that
    is done. A token of p above 1 − 1e-6 has no pull."""
    p = (-token_losses(logits_BTV, labels_BT)).exp().clamp(max=1.0 - 1e-6)
    mask = labels_BT[:, 1:] != IGNORED
    return -((-p).log1p() * mask).sum() / mask.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class LAT:
    """Descend ``CE(refusal) + away(harmful answer)`` under a push δ on hidden states, and
    ``utility`` times what is kept, without one.

    δ is found for each batch by ``inner`` steps of AdamW at ``push_lr`` from nothing, no longer
    than ``radius`` at every token (``ball``), after the embedding and the blocks at ``depths``
    (shares). ``targeted``, it makes the harmful answer likely and the refusal unlikely, half each;
    else it only makes the refusal unlikely. It is held for ``outer`` steps on the same batch and
    thrown away. Tokens of the prompt are pushed, with ``answers`` those of the answer too.

    Source: Casper et al. 2024, arXiv:2403.05030; targeted: Sheshadri et al. 2024, arXiv:2407.15549,
    settings of its repository for Llama-2 (Llama-3: push_lr 1e-3, lr 8e-5, retain ``kl`` at 0.1,
    answers pushed too).
    Departs: pushes are not clamped to the range of states seen; AdamW steps also untargeted, where
    the repository takes signed or normalised ones; the outer optimiser keeps its state.
    """

    targeted: bool = True
    radius: float = 6.0
    ball: Ball = "token"
    inner: int = 16
    outer: int = 4
    push_lr: float = 5e-2
    depths: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9375)
    embedding: bool = True
    answers: bool = False
    utility: float = 1.5
    retain: Retain = "ce"
    lr: float = 2e-5
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "lora"
    rank: int = 64
    alpha: float = 64.0

    def __post_init__(self) -> None:
        if self.inner < 0 or self.outer < 1:
            raise BadInput("lat: inner is at least 0, outer at least 1.")
        if not all(0 <= x < math.inf for x in (self.radius, self.push_lr, self.utility)):
            raise BadInput("lat: radius, push_lr and utility must not be negative.")
        if not all(0 <= depth < 1 for depth in self.depths) or not (self.depths or self.embedding):
            raise BadInput(
                f"lat: depths={self.depths}; give shares from 0 to below 1, or the embedding."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        found = aligned(run, self.utility)
        sources = {
            role: Source(
                examples=one.examples,
                order=one.order,
                repeat=1 if role == "retain" else self.outer,
            )
            for role, one in found.items()
        }
        # A gradient by pushes alone costs two thirds of one by weights.
        probes = self.inner / self.outer * 2 / 3
        return harden(
            lm,
            run,
            Training.of(self),
            sources,
            lambda _ready: [
                Phase(
                    grad=self._gradient(lm, run),
                    passes={"safe": probes, "harmful": probes if self.targeted else 0.0},
                )
            ],
            frozen=("retain",) if self.retain == "kl" and self.utility else (),
        )

    def _gradient(self, lm: LM, run: Run) -> Any:
        begun, pushes = run.spent.steps, list[Tensor]()

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            nonlocal pushes
            places = self.places(model)
            if (run.spent.steps - begun) % self.outer == 0:
                with still(model):
                    pushes = self.worst(model, bundle)
            with pushed(places, pushes):
                safe, bad = bundle["safe"], bundle["harmful"]
                loss = cross_entropy(logits(model, safe), safe.labels)
                loss = loss + away(logits(model, bad), bad.labels)
            if self.utility:
                kept = retain_loss(self.retain, model, lm.model, bundle["retain"])
                loss = loss + self.utility * kept
            loss.backward()
            return {"loss": float(loss.detach())}

        return grad

    def places(self, model: Any) -> list[Any]:
        """The modules whose outputs are pushed."""
        found = list(blocks(model))
        layers = sorted({int(depth * len(found)) for depth in self.depths})
        first = [model.get_input_embeddings()] if self.embedding else []
        return [*first, *(found[layer] for layer in layers)]

    def worst(self, model: Any, bundle: Bundle) -> list[Tensor]:
        """The pushes for a batch of pairs, found with the weights as they are."""
        safe, bad = bundle["safe"], bundle["harmful"]

        def loss() -> Tensor:
            if not self.targeted:
                return -cross_entropy(logits(model, safe), safe.labels)
            wanted = cross_entropy(logits(model, bad), bad.labels)
            return 0.5 * wanted + 0.5 * away(logits(model, safe), safe.labels)

        longer = max(safe, bad, key=lambda batch: batch.input_ids.shape[1])
        return descended(
            self.places(model),
            loss,
            radius=self.radius,
            steps=self.inner,
            lr=self.push_lr,
            mask_BT=longer.attention_mask if self.answers else _prompts(longer),
            width=hidden_size(model.config),
            ball=self.ball,
        )


def _prompts(batch: Batch) -> Tensor:
    """1 at the prompt's tokens, which a pair shares; (B, T)."""
    return batch.attention_mask * (batch.labels == IGNORED)


PRESETS = {
    "lat-testbed": Preset(
        title="targeted, for models of about a million parameters",
        fields={"lr": 3e-3, "batch_size": 32, "radius": 2.0, "inner": 8, "rank": 16, "alpha": 32.0},
        steps=(120, 1000),
        source="titer",
    ),
    "lat-paper": Preset(
        title="targeted, Llama-2-7B-chat", fields={}, steps=(120, 400), source="arXiv:2407.15549"
    ),
    "lat-untargeted": Preset(
        title="untargeted, one depth, a ball an example",
        fields={
            "targeted": False,
            "depths": (0.25,),
            "embedding": False,
            "ball": "example",
            "inner": 6,
            "outer": 1,
        },
        steps=(120, 400),
        source="arXiv:2403.05030",
    ),
}

CARD = Card(
    kind="defence",
    build=LAT,
    source="arXiv:2407.15549, arXiv:2403.05030",
    summary="refusals under the worst push on hidden states",
    family="representation",
    departures="no clamp to the range of states; the optimiser keeps its state. Data: hazard "
    "with refusals and harmful answers, retain. About 24 passes for four steps. Claims "
    "resistance to inputs and, in part, to relearning. Known breaker: fine-tuning "
    "(arXiv:2502.05209)",
    presets=PRESETS,
)
