"""What a piece of work will need, before it starts: bytes and seconds from shapes alone.

Everything is approximate, and each approximation is said where it is made. The aim is to refuse a
job that cannot fit and to tell minutes from days, not to predict to the percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from titer.core.config import DEPTHS, WIDTHS, setting
from titer.core.errors import BadInput

__all__ = ["Needed", "Work", "estimate"]

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "wpe.weight", "embed_in.weight")
_SAVED_PER_LAYER = 16
"""Activations of width D that a block keeps per token for its backward pass: two norms, q, k, v,
attention's output, two residuals and four to eight in the MLP (which is 2.7 to 4 D wide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done.

    ``steps`` optimiser steps of ``batch_size`` rows of ``tokens_per_row`` tokens; then or meanwhile
    ``judged_rows`` rows are scored without a gradient. ``trains`` says what changes: every weight
    or a LoRA of ``rank``. ``copies`` counts the frozen models held beside the one that trains (a
    reference, an undefended twin). ``bytes_per_weight`` is 4 for float32, 2 for bfloat16.
    """

    steps: int
    batch_size: int
    tokens_per_row: int
    judged_rows: int = 0
    trains: Literal["full", "lora"] = "full"
    rank: int = 16
    copies: int = 0
    bytes_per_weight: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """An estimate. Memory in bytes, ``flops`` in floating-point operations, ``seconds`` None
    where no speed was given."""

    parameters: int
    trained: int
    weights: int
    gradients: int
    moments: int
    activations: int
    logits: int
    flops: float
    seconds: float | None = None

    @property
    def memory(self) -> int:
        """The peak in bytes: all of it at once, which is true at the end of a backward pass."""
        return self.weights + self.gradients + self.moments + self.activations + self.logits


def estimate(
    shapes: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
    work: Work,
    *,
    gflops: float | None = None,
) -> Needed:
    """Memory and time of ``work`` on a model of these tensors.

    ``shapes`` come from :func:`titer.core.modelfolder.tensor_shapes`, ``config`` is the content of
    ``config.json``, ``gflops`` the measured speed of the machine in 10⁹ operations a second.

    Approximations: gradients and the two moments of AdamW have the weights' precision; a block
    keeps 16 activations of its width a token, and attention's scores are never stored; logits are
    held three times in float32 (themselves, their softmax, its gradient). A training token costs 6
    operations a weight when every weight trains, and 4 with LoRA plus 6 a weight of the adapter; a
    judged one costs 2. Look-ups in embeddings are free, attention's own products are left out, and
    so are the framework and the cost of loading.

    Raises:
        BadInput: there are no tensors, or a number of ``work`` is negative.
    """
    _check(shapes, work)
    width, layers, vocabulary = _dimensions(shapes, config)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    matrices = _in_matmuls(shapes, config)
    adapter = _adapter(shapes, work.rank) if work.trains == "lora" else 0
    trained = adapter or parameters
    tokens = work.batch_size * work.tokens_per_row
    each = 4.0 * matrices + 6.0 * adapter if adapter else 6.0 * matrices
    flops = each * tokens * work.steps + 2.0 * matrices * work.judged_rows * work.tokens_per_row
    size = work.bytes_per_weight
    return Needed(
        parameters=parameters,
        trained=trained,
        weights=(parameters * (1 + work.copies) + adapter) * size,
        gradients=trained * size if work.steps else 0,
        moments=2 * trained * size if work.steps else 0,
        activations=(_SAVED_PER_LAYER * layers if work.steps else 4) * width * tokens * size,
        logits=(3 if work.steps else 1) * 4 * vocabulary * tokens,
        flops=flops,
        seconds=flops / (gflops * 1e9) if gflops else None,
    )


def _check(shapes: Mapping[str, tuple[int, ...]], work: Work) -> None:
    if not shapes:
        raise BadInput("the model has no tensors, so nothing can be estimated.")
    numbers = (work.steps, work.batch_size, work.tokens_per_row, work.judged_rows, work.copies)
    if min(numbers) < 0 or work.rank < 1:
        raise BadInput(f"{work}: no number of work may be negative, and rank is at least 1.")


def _dimensions(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> tuple[int, int, int]:
    """Width, blocks and vocabulary; from the config under its usual names, else from shapes."""
    matrices = [shape for shape in shapes.values() if len(shape) == 2]
    largest = max(matrices, key=math.prod, default=(1, 1))
    width = setting(config, *WIDTHS) or min(largest)
    layers = setting(config, *DEPTHS) or max(1, len(matrices) // 7)
    return width, layers, setting(config, "vocab_size") or max(largest)


def _in_matmuls(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> int:
    """Weights that take part in products; a head tied to the embedding counts once, as the head."""
    total = sum(math.prod(shape) for shape in shapes.values() if len(shape) >= 2)
    found = [
        (name, math.prod(shape)) for name, shape in shapes.items() if name.endswith(_EMBEDDINGS)
    ]
    headless = not any("lm_head" in name or "embed_out" in name for name in shapes)
    tied = bool(config.get("tie_word_embeddings", headless)) or headless
    return total - sum(
        size for name, size in found if not (tied and headless and not name.endswith("wpe.weight"))
    )


def _adapter(shapes: Mapping[str, tuple[int, ...]], rank: int) -> int:
    """Weights of a LoRA around every matrix of the blocks: ``rank`` rows and columns each."""
    return sum(
        rank * sum(shape)
        for name, shape in shapes.items()
        if len(shape) == 2
        and not name.endswith(_EMBEDDINGS)
        and "lm_head" not in name
        and "embed_out" not in name
    )
