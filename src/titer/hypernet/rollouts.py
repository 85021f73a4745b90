"""Expected reward of what an attacked model says, by reinforcement. B rows, T tokens, G group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.hypernet.context import prompts
from titer.hypernet.objectives import Objective, logits
from titer.train.batches import IGNORED, Batch, Bundle
from titer.train.objectives import Reduction, row_losses
from titer.train.policy import group_advantage, leave_one_out

__all__ = ["Estimator", "Reward", "expected_reward", "roll"]

Estimator = Literal["grpo", "reinforce"]

Reward = Callable[[Bundle, Batch], Tensor]
"""Rewards (B,) of a batch of answers, given the bundle whose ``wanted`` prompts were asked."""


@torch.no_grad()
def roll(model: Any, asked: Batch, length: int, end: int, draw: torch.Generator) -> Batch:
    """One sampled answer a row, at temperature 1, of at most ``length`` tokens, ``end`` included.

    Returns the prompts with their answers, labelled. Every pass sees the whole text, so that any
    edit applies; use it for short answers.
    """
    ids = torch.nn.functional.pad(asked.input_ids, (0, length))
    mask = torch.nn.functional.pad(asked.attention_mask, (0, length))
    labels = torch.full_like(ids, IGNORED)
    place, alive = asked.attention_mask.sum(-1), torch.ones(len(ids), dtype=torch.bool)
    alive, every = alive.to(ids.device), torch.arange(len(ids), device=ids.device)
    for _ in range(length):
        width = int(place.max())  # what comes later is padding so far
        out = model(
            input_ids=ids[:, :width], attention_mask=mask[:, :width], use_cache=False
        ).logits
        odds = out[every, place - 1].float().softmax(-1)
        token = torch.multinomial(odds.cpu(), 1, generator=draw)[:, 0].to(ids.device)
        rows, at = every[alive], place[alive]
        ids[rows, at], labels[rows, at], mask[rows, at] = token[alive], token[alive], 1
        place, alive = place + alive.long(), alive & (token != end)
        if not bool(alive.any()):
            break
    width = int(place.max())
    return replace(
        asked,
        input_ids=ids[:, :width],
        attention_mask=mask[:, :width],
        labels=labels[:, :width],
        tokens=int(mask.sum()),
    )


def expected_reward(
    reward: Reward,
    *,
    end: int,
    group: int,
    length: int,
    seed: int = 0,
    kind: Estimator = "grpo",
) -> Objective:
    """Minus the expected reward of answers sampled under the patch at hand.

    Its value is a surrogate whose gradient estimates the policy gradient: for ``grpo``
    ``−mean A log π(y|x)/|y|`` with ``A`` in standard deviations of the prompt's group; for
    ``reinforce`` ``−mean A log π(y|x)`` with ``A`` the reward less the mean of the other answers,
    which is unbiased. Answers are used once, so ratios are 1 and need no clipping. The group of a
    prompt is rolled out under one patch. Without variance in a group there is no signal: start from
    an adversary trained by preference or likelihood.

    Source: Shao et al. 2024, arXiv:2402.03300 (GRPO); Ahmadian et al. 2024, arXiv:2402.14740
    (REINFORCE with a baseline that leaves one out).

    Raises:
        BadInput: a group of one, which has no variance, or no room for an answer.
    """
    if group < 2 or length < 1:
        raise BadInput(f"expected reward: group={group}, length={length}; at least 2 and 1.")
    draw = torch.Generator().manual_seed(seed % 2**63)
    advantage = group_advantage if kind == "grpo" else leave_one_out
    reduction: Reduction = "mean" if kind == "grpo" else "sum"

    def objective(model: Any, bundle: Bundle) -> Tensor:
        asked, training = prompts(bundle["wanted"]), model.training
        model.eval()
        said = [roll(model, asked, length, end, draw) for _ in range(group)]
        model.train(training)
        rewards_BG = torch.stack([reward(bundle, batch).float() for batch in said], -1)
        gained_GB = advantage(rewards_BG).T.to(asked.input_ids.device)
        terms = [
            gained_B * row_losses(logits(model, batch), batch.labels, reduction)
            for gained_B, batch in zip(gained_GB, said, strict=True)
        ]
        return torch.stack(terms).mean()

    return objective
