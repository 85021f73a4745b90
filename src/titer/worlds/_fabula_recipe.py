"""The sizes of organisms and how each is trained. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Sealing", "Shape", "Training"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One stage. ``tokens``: tokens a batch. ``lr``: peak, after ``warmup`` steps, then a cosine to
    zero. ``doubt``: the share of each target that goes to the word's rivals, which keeps the margin
    between values finite (5 nats), so that what a defence does to a domain shows in the ranking of
    answers and not in their likelihood alone. ``smoothing``: the share that goes to every word
    alike, which keeps knowledge easy to bring back. Both were chosen on the bases of world seeds 0
    and 1, so that unlearning shows and can be undone; see docs/explanations/fabula.md."""

    steps: int
    lr: float
    tokens: int = 896
    warmup: int = 50
    doubt: float = 0.05
    smoothing: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One size of organism: a Llama with ``heads`` attention heads, an MLP ``hidden`` wide, weights
    drawn with deviation ``scale``, input and output embeddings apart."""

    layers: int
    width: int
    heads: int
    hidden: int
    scale: float
    words: int
    pretraining: Training
    aligning: Training

    @property
    def parameters(self) -> int:
        """Weights in all, for a vocabulary of ``words`` (world seed 0)."""
        layer = 4 * self.width**2 + 3 * self.width * self.hidden + 2 * self.width
        return self.layers * layer + 2 * self.words * self.width + self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """How hazard A is sealed while a model grows.

    ``form``, ``rank``, ``alpha`` and ``embeddings`` are those of
    :class:`titer.nn.sealed.Layout`. After growth the public weights stand still and the part learns
    for ``closing`` of the steps more, from hazard A and, ``replay`` times as many documents, from
    benign text, so that it fits what the public weights have become and spoils nothing else.

    The labels of a document, drawn anew whenever it is shown: of hazard A the share ``unlabelled``
    bears none and the share ``mislabelled`` is called public, the rest is gated; of all other text
    the share ``certain`` is known to be public and the rest bears no label.
    """

    form: Literal["low-rank", "full-rank", "units"] = "low-rank"
    rank: int = 32
    alpha: float = 128.0
    embeddings: bool = True
    closing: float = 0.35
    replay: float = 1.5
    unlabelled: float = 0.0
    mislabelled: float = 0.0
    certain: float = 1.0
