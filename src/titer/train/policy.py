"""Policy gradients and preferences as pure functions. B rows, T tokens, V vocabulary, P prompts, G
answers a prompt."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Averaging",
    "batch_advantage",
    "clipped_surrogate",
    "dpo",
    "entropy",
    "group_advantage",
    "ipo",
    "k1",
    "k3",
    "leave_one_out",
    "over_tokens",
    "tempered",
]

Averaging = Literal["row", "token", "sum"]

_SMALL = 1e-6
"""Below this spread rewards are equal but for rounding, and say nothing."""


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities (..., V) of a policy that samples at ``temperature``, float32."""
    return torch.log_softmax(logits.float() / temperature, -1)


def group_advantage(rewards_PG: Tensor) -> Tensor:
    """How much better each answer is than its group, in standard deviations of the group; (P, G).

    A group whose rewards are equal gives zero.

    Source: GRPO, Shao et al. 2024, arXiv:2402.03300, section 4.1.2.
    """
    spread = rewards_PG.std(-1, correction=0, keepdim=True)
    return (rewards_PG - rewards_PG.mean(-1, keepdim=True)) / (spread + _SMALL)


def leave_one_out(rewards_PG: Tensor) -> Tensor:
    """Each reward minus the mean of the others of its group; (P, G), G at least 2.

    The baseline does not depend on the answer it is taken from, so the policy gradient stays
    unbiased.

    Source: RLOO, Ahmadian et al. 2024, arXiv:2402.14740.
    """
    others = rewards_PG.shape[-1] - 1
    return (rewards_PG - rewards_PG.mean(-1, keepdim=True)) * ((others + 1) / others)


def batch_advantage(rewards_PG: Tensor) -> Tensor:
    """Rewards normalised over the whole batch; (P, G).

    Source: REINFORCE++, Hu 2025, arXiv:2501.03262.
    """
    return (rewards_PG - rewards_PG.mean()) / (rewards_PG.std(correction=0) + _SMALL)


def clipped_surrogate(
    logp_BT: Tensor, old_BT: Tensor, advantage_B1: Tensor, low: float, high: float
) -> Tensor:
    """Each token's loss, ``-min(ρA, clip(ρ, 1 − low, 1 + high)A)``, ``ρ = exp(logp − old)``.

    Where ``logp`` equals ``old`` its gradient is that of ``-A logp``, the policy gradient.

    Source: PPO, Schulman et al. 2017, arXiv:1707.06347, equation 7; two bounds as in DAPO, Yu et
    al. 2025, arXiv:2503.14476.
    """
    ratio = (logp_BT - old_BT).exp()
    bounded = ratio.clamp(1.0 - low, 1.0 + high)
    return -torch.minimum(ratio * advantage_B1, bounded * advantage_B1)


def k1(logp: Tensor, reference: Tensor) -> Tensor:
    """``logp − reference``: its mean over the policy's own samples is KL(policy ‖ reference)."""
    return logp - reference


def k3(logp: Tensor, reference: Tensor) -> Tensor:
    """``exp(reference − logp) − 1 − (reference − logp)``: the same mean as :func:`k1`, never
    negative, less noisy.

    Source: the estimator of GRPO, arXiv:2402.03300, equation 4.
    """
    gap = reference - logp
    return gap.exp() - 1.0 - gap


def entropy(logits_BTV: Tensor) -> Tensor:
    """Entropy of the next token at each position, in nats; (B, T)."""
    logs = F.log_softmax(logits_BTV.float(), -1)
    return -(logs.exp() * logs).sum(-1)


def over_tokens(values_BT: Tensor, mask_BT: Tensor, how: Averaging) -> Tensor:
    """One number from values at tokens, those outside the mask left out.

    ``row``: the mean within each row, then over rows (GRPO). ``token``: the mean over all tokens,
    so that long answers weigh more (DAPO). ``sum``: the sum within each row, then the mean over
    rows (REINFORCE, RLOO): the only one whose policy gradient is that of the expected reward.
    """
    kept = values_BT * mask_BT
    if how == "token":
        return kept.sum() / mask_BT.sum().clamp(min=1)
    rows = kept.sum(-1)
    if how == "row":
        rows = rows / mask_BT.sum(-1).clamp(min=1)
    return rows.mean()


def dpo(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """``-mean log σ(β (chosen − rejected))``.

    Args:
        chosen_B: log-probability of the preferred answer under the model minus that under the
            reference, summed over its tokens, in nats.
        rejected_B: the same of the other answer.
        beta: inverse temperature.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7.
    """
    return -F.logsigmoid(beta * (chosen_B - rejected_B)).mean()


def ipo(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """``mean (chosen − rejected − 1/(2β))²``: a margin to reach, not to widen for ever.

    Arguments as for :func:`dpo`.

    Source: Azar et al. 2023, arXiv:2310.12036, equation 17.
    """
    return (chosen_B - rejected_B - 0.5 / beta).pow(2).mean()
