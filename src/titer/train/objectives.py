"""Losses as pure functions. B rows, T tokens, V vocabulary, D width.

Three reductions that must never be mixed: the mean over the tokens of the batch, the sum over a
row's tokens, and the mean over a row's tokens.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from titer.nn.head import hidden_states, splits
from titer.train.batches import IGNORED, Batch

__all__ = [
    "Reduction",
    "activation_distance",
    "answer_kl",
    "answer_loss",
    "answer_losses",
    "cross_entropy",
    "kl_to",
    "mapping_distance",
    "npo",
    "row_losses",
    "row_scale_slopes",
    "simnpo",
    "single",
    "token_losses",
    "unit_target",
    "wga",
]

Reduction = Literal["sum", "mean", "batch"]
"""What an answer's likelihood is before a preference loss takes its log-sigmoid: ``sum`` over a
row's tokens, ``mean`` over them, or one mean over all tokens of the ``batch``."""


def single(values: Tensor) -> Tensor:
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
    logits = single(logits_BTV[:, :-1])
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
    """Mean cross-entropy of the answers in a batch, in nats; :func:`answer_losses` of one."""
    return answer_losses(model, batch)[0]


def answer_losses(model: Any, batch: Batch, members: int = 1) -> Tensor:
    """Each member's mean cross-entropy over its supervised tokens, (K,), in nats; zero if it
    has none. Members follow one another, each with as many rows.

    Logits are computed at supervised positions only, where the model's head allows it.
    """
    logits, labels = _answers(model, batch, members, part=splits(model))
    losses = F.cross_entropy(
        single(logits.flatten(0, 1)), labels.reshape(-1), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(members, -1).sum(1) / (labels != IGNORED).sum(1).clamp(min=1)


def answer_kl(reference: Any, model: Any, batch: Batch) -> Tensor:
    """Mean over the batch's supervised tokens of KL(reference ‖ model), in nats; the reference
    takes no gradient. :func:`kl_to` of both models' logits, which are computed where they count."""
    part = splits(reference) and splits(model)
    with torch.no_grad():
        then, _ = _answers(reference, batch, part=part)
    now, labels = _answers(model, batch, part=part)
    return _mean_kl(then, now, labels != IGNORED)


def _answers(model: Any, batch: Batch, members: int = 1, *, part: bool) -> tuple[Tensor, Tensor]:
    """Logits (K, S, V) that predict tokens, and those tokens (K, S): where the head can be asked
    for a ``part`` only as many as the member with most supervised ones has, else all."""
    # A row's last position predicts nothing.
    labels = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORED).reshape(members, -1)
    if part:
        most = max(1, int((labels != IGNORED).sum(1).max()))
        order = (labels == IGNORED).to(torch.int8).argsort(dim=1, stable=True)
        places_KS = order[:, :most]
        labels = labels.gather(1, places_KS)
        hidden = hidden_states(model, batch.inputs())
        hidden = hidden.reshape(members, -1, hidden.shape[-1])
        wanted = places_KS[..., None].expand(-1, -1, hidden.shape[-1])
        logits = model.get_output_embeddings()(hidden.gather(1, wanted))
    else:
        logits = model(**batch.inputs(), use_cache=False).logits
    return logits.reshape(members, -1, logits.shape[-1]), labels


def row_losses(logits_BTV: Tensor, labels_BT: Tensor, reduction: Reduction) -> Tensor:
    """Negative log-likelihood of each row's answer, in nats.

    Returns:
        (B,) summed or averaged over a row's tokens; (1,) for ``batch``, which takes the whole batch
        for one row, averaged over its tokens.
    """
    if reduction == "batch":
        return cross_entropy(logits_BTV, labels_BT)[None]
    sums = token_losses(logits_BTV, labels_BT).sum(-1)
    if reduction == "sum":
        return sums
    return sums / (labels_BT[:, 1:] != IGNORED).sum(-1).clamp(min=1)


def npo(rows_B: Tensor, reference_B: Tensor, beta: float) -> Tensor:
    """Negative preference optimisation, ``-(2/β) mean log σ(β (S − S_ref))``.

    Args:
        rows_B: each row's negative log-likelihood under the model, see :func:`row_losses`.
        reference_B: the same under the frozen start.
        beta: inverse temperature; meaningful only together with the reduction of the rows.

    Source: Zhang et al. 2024, arXiv:2404.05868, equation 3; with ``reduction="sum"`` it is theirs.
    With ``batch`` it is that of the public code of arXiv:2502.05374 and arXiv:2506.01339
    (Unlearn-Smooth, Unlearn-ILU), which takes one log-sigmoid a batch; ``mean`` is neither's. On
    answers of one token ``sum`` and ``mean`` agree, and ``batch`` with them if there is one answer.
    """
    return -(2.0 / beta) * F.logsigmoid(beta * (rows_B - reference_B)).mean()


def simnpo(rows_B: Tensor, beta: float, delta: float = 0.0) -> Tensor:
    """Reference-free preference unlearning, ``-(2/β) mean log σ(β (A − δ))``.

    Args:
        rows_B: each row's negative log-likelihood, averaged over its tokens.
        beta: inverse temperature.
        delta: margin, in nats a token.

    Source: Fan et al. 2024, arXiv:2410.07163.
    """
    return -(2.0 / beta) * F.logsigmoid(beta * (rows_B - delta)).mean()


def wga(logits_BTV: Tensor, labels_BT: Tensor, beta: float) -> Tensor:
    """Weighted gradient ascent, ``-mean p^β ℓ`` over supervised tokens; ``p`` is a constant.

    With β = 0 it is minus the cross-entropy.

    Source: Wang et al. 2025, arXiv:2502.19301.
    """
    losses = token_losses(logits_BTV, labels_BT)
    count = (labels_BT[:, 1:] != IGNORED).sum().clamp(min=1)
    confidence = (-losses.detach()).exp().pow(beta)
    return -(confidence * losses).sum() / count


def row_scale_slopes(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """How each row's summed loss changes with the scale of its logits: ``∂/∂w Σ_t CE(w z_t, y_t)``.

    In closed form ``Σ_t (Σ_v p_tv z_tv − z_t,y)``, so that its square needs no double backward.

    Args:
        logits_BTV: the model's output.
        labels_BT: unshifted labels; :data:`~titer.train.batches.IGNORED` carries no loss.

    Returns:
        (B,), float32 at least.

    Source: Arjovsky et al. 2019, arXiv:1907.02893 (IRMv1).
    """
    labels = labels_BT[:, 1:]
    mask = labels != IGNORED
    # Only supervised positions: the vocabulary is wide and prompts are long.
    scores_NV = single(logits_BTV[:, :-1][mask])
    # A constant on all logits drops out of the difference, but not of its rounding.
    scores_NV = scores_NV - scores_NV.detach().amax(-1, keepdim=True)
    wanted_N = scores_NV.gather(-1, labels[mask].unsqueeze(-1)).squeeze(-1)
    slopes_N = (scores_NV.softmax(-1) * scores_NV).sum(-1) - wanted_N
    rows = torch.arange(len(labels), device=labels.device).unsqueeze(-1).expand_as(labels)[mask]
    return slopes_N.new_zeros(len(labels)).index_add(0, rows, slopes_N)


def mapping_distance(hidden_BTD: Tensor, targets_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over real tokens of ``1 − |cos(h, target)|``."""
    cosine = F.cosine_similarity(single(hidden_BTD), single(targets_BTD), dim=-1)
    return ((1.0 - cosine.abs()) * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def kl_to(reference_BTV: Tensor, logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean over supervised tokens of KL(reference ‖ model), in nats."""
    return _mean_kl(reference_BTV[:, :-1], logits_BTV[:, :-1], labels_BT[:, 1:] != IGNORED)


def _mean_kl(reference: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    model, target = F.log_softmax(single(logits), -1), F.log_softmax(single(reference), -1)
    each = (target.exp() * (target - model)).sum(-1)
    return (each * mask).sum() / mask.sum().clamp(min=1)


def activation_distance(hidden_BTD: Tensor, target: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean squared distance over the real tokens of a batch and the width: a row weighs as many
    times as it has tokens.

    Args:
        hidden_BTD: activations.
        target: (B, T, D), or (D,) for one target everywhere.
        mask_BT: 1 at the tokens that count.
    """
    each = (single(hidden_BTD) - single(target)).pow(2).mean(-1)
    return (each * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def unit_target(width: int, seed: int) -> Tensor:
    """RMU's control vector: uniform on [0, 1) in every coordinate, then of length 1; (D,)."""
    draw = torch.Generator().manual_seed(seed % 2**63)
    vector = torch.rand(width, generator=draw)
    return vector / vector.norm()
