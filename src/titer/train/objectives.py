"""Losses as pure functions. B rows, T tokens, V vocabulary, D width.

Three reductions that must never be mixed: the mean over tokens, the sum over a row's tokens, and
the mean over a row's tokens.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from titer.train.batches import IGNORED, Batch

__all__ = [
    "Reduction",
    "activation_distance",
    "answer_loss",
    "cross_entropy",
    "kl_to",
    "npo",
    "row_losses",
    "token_losses",
    "unit_target",
]

Reduction = Literal["sum", "mean"]


def _single(values: Tensor) -> Tensor:
    """Half precision goes up to single; what is finer stays."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def token_losses(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Negative log-likelihood of each next token, in nats.

    Args:
        logits_BTV: the model's output.
        labels_BT: unshifted labels; :data:`~titer.train.batches.IGNORED` carries no loss.

    Returns:
        (B, T−1), float32 at least, zero where the label is ignored.
    """
    logits = _single(logits_BTV[:, :-1])
    labels = labels_BT[:, 1:]
    losses = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        ignore_index=IGNORED,
        reduction="none",
    )
    return losses.view(labels.shape)


def cross_entropy(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean over all supervised tokens of the batch, in nats; zero if there is none."""
    count = (labels_BT[:, 1:] != IGNORED).sum().clamp(min=1)
    return token_losses(logits_BTV, labels_BT).sum() / count


def answer_loss(model: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy of the answers in a batch, in nats, from all of a model's logits."""
    return cross_entropy(model(**batch.inputs(), use_cache=False).logits, batch.labels)


def row_losses(logits_BTV: Tensor, labels_BT: Tensor, reduction: Reduction) -> Tensor:
    """Negative log-likelihood of each row's answer (B,), summed or averaged over its tokens."""
    sums = token_losses(logits_BTV, labels_BT).sum(-1)
    if reduction == "sum":
        return sums
    return sums / (labels_BT[:, 1:] != IGNORED).sum(-1).clamp(min=1)


def npo(rows_B: Tensor, reference_B: Tensor, beta: float) -> Tensor:
    """Negative preference optimisation, ``-(2/β) mean log σ(β (S − S_ref))``.

    Args:
        rows_B: each row's negative log-likelihood under the model.
        reference_B: the same under the frozen start.
        beta: inverse temperature; meaningful only together with the reduction of the rows.

    Source: Zhang et al. 2024, arXiv:2404.05868, equation 3; with ``reduction="sum"`` it is theirs.
    """
    return -(2.0 / beta) * F.logsigmoid(beta * (rows_B - reference_B)).mean()


def kl_to(reference_BTV: Tensor, logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean over supervised tokens of KL(reference ‖ model), in nats."""
    mask = labels_BT[:, 1:] != IGNORED
    model = F.log_softmax(_single(logits_BTV[:, :-1]), -1)
    target = F.log_softmax(_single(reference_BTV[:, :-1]), -1)
    each = (target.exp() * (target - model)).sum(-1)
    return (each * mask).sum() / mask.sum().clamp(min=1)


def activation_distance(hidden_BTD: Tensor, target: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean squared distance over the real tokens of a batch and the width.

    Args:
        hidden_BTD: activations.
        target: (B, T, D), or (D,) for one target everywhere.
        mask_BT: 1 at the tokens that count.
    """
    each = (_single(hidden_BTD) - _single(target)).pow(2).mean(-1)
    return (each * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def unit_target(width: int, seed: int) -> Tensor:
    """RMU's control vector: uniform on [0, 1) in every coordinate, then of length 1; (D,)."""
    draw = torch.Generator().manual_seed(seed % 2**63)
    vector = torch.rand(width, generator=draw)
    return vector / vector.norm()
