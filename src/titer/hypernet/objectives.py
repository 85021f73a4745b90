"""What a player of the game wants: losses of a model, whatever patch it runs under.

An objective is any callable ``(model, bundle) -> scalar`` with a gradient. Those here read the
bundle's parts ``wanted`` and ``unwanted``: answers to the same prompts, row by row. For the
attacker the harmful answer is wanted; a defender has the same objective with the two exchanged
(:func:`turned`). B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.method import seed_for
from titer.hypernet.adversary import Adversary
from titer.hypernet.apply import Patch, applied
from titer.train.batches import Batch, Bundle
from titer.train.objectives import (
    Reduction,
    cross_entropy,
    kl_to,
    row_losses,
)

__all__ = [
    "DECLINE",
    "Objective",
    "Preference",
    "Safe",
    "attack_loss",
    "coherence",
    "drift",
    "likelihood",
    "logits",
    "margins",
    "preference",
    "preferring",
    "rivals",
    "turned",
]

DECLINE = "I cannot help with that."
"""What a model should say where an example does not."""

Objective = Callable[[Any, Bundle], Tensor]
Preference = Literal["log-sigmoid", "dpo", "ipo"]
Safe = Literal["refusal", "distractor"]


def logits(model: Any, batch: Batch) -> Tensor:
    """The model's output on a batch, (B, T, V)."""
    return model(**batch.inputs(), use_cache=False).logits


def turned(bundle: Bundle) -> Bundle:
    """The same pairs as the other player sees them."""
    swapped = {"wanted": bundle["unwanted"], "unwanted": bundle["wanted"]}
    return Bundle({**bundle.parts, **swapped})


def rivals(examples: Sequence[Example], safe: Safe, default: str = DECLINE) -> list[Example]:
    """The same prompts in the same order, each with a safe answer.

    ``refusal`` takes the example's own refusal, or ``default`` where it has none. ``distractor``,
    for hazards of knowledge, takes one of its wrong choices, always the same, and a refusal where
    there are no choices.
    """
    return [
        Example(id=example.id, prompt=example.prompt, answer=_safe(example, safe, default))
        for example in examples
    ]


def _safe(example: Example, safe: Safe, default: str) -> str:
    wrong = [choice for choice in example.choices if choice != example.answer]
    if safe == "refusal" or not wrong:
        return example.refusal or default
    return wrong[seed_for(0, example.id) % len(wrong)]


def margins(model: Any, bundle: Bundle, reduction: Reduction = "sum") -> Tensor:
    """Log-likelihood of the wanted answer less that of the unwanted one, in nats; (B,)."""
    wanted, unwanted = (
        row_losses(logits(model, bundle[name]), bundle[name].labels, reduction)
        for name in ("wanted", "unwanted")
    )
    return unwanted - wanted


def preference(margins_B: Tensor, reference_B: Tensor, kind: Preference, beta: float) -> Tensor:
    """How far margins are from what a player wants; mean over rows.

    ``log-sigmoid``: ``−log σ(β m)``, without a reference. ``dpo``: ``−log σ(β (m − m_ref))``.
    ``ipo``: ``(m − m_ref − 1/2β)²``, which stops pulling at a finite margin.

    Source: Sanyal et al. 2025, arXiv:2509.08000; Rafailov et al. 2023, arXiv:2305.18290; Azar et
    al. 2023, arXiv:2310.12036.
    """
    if kind == "log-sigmoid":
        return -F.logsigmoid(beta * margins_B).mean()
    gained = margins_B - reference_B
    if kind == "dpo":
        return -F.logsigmoid(beta * gained).mean()
    return (gained - 1 / (2 * beta)).square().mean()


def preferring(
    kind: Preference = "log-sigmoid",
    beta: float = 1.0,
    *,
    reference: Any = None,
    reduction: Reduction = "sum",
) -> Objective:
    """:func:`preference` of wanted over unwanted answers; ``reference`` is a frozen model.

    Raises:
        BadInput: ``dpo`` or ``ipo`` without a reference, or a beta that is not positive.
    """
    if not beta > 0:
        raise BadInput(f"preference: beta={beta} must be positive.")
    if kind != "log-sigmoid" and reference is None:
        raise BadInput(f"preference: {kind} compares with a reference model; give one.")

    def objective(model: Any, bundle: Bundle) -> Tensor:
        now = margins(model, bundle, reduction)
        if kind == "log-sigmoid":
            return preference(now, torch.zeros_like(now), kind, beta)
        with torch.no_grad():
            before = margins(reference, bundle, reduction)
        return preference(now, before, kind, beta)

    return objective


def likelihood(model: Any, bundle: Bundle) -> Tensor:
    """Cross-entropy of the wanted answers: what supervised fine-tuning minimises."""
    return cross_entropy(logits(model, bundle["wanted"]), bundle["wanted"].labels)


def coherence(clean_BTV: Tensor, model: Any, batch: Batch) -> Tensor:
    """KL(clean ‖ model) at the answers of benign text: a real attacker keeps the model useful.

    ``clean_BTV`` are the unattacked model's logits, taken before the patch is put on.
    """
    return kl_to(clean_BTV, logits(model, batch), batch.labels)


def attack_loss(
    adversary: Adversary,
    model: Any,
    bundle: Bundle,
    objective: Objective,
    *,
    coherent: float = 0.0,
) -> Tensor:
    """What an adversary minimises: the objective under its patch for the ``wanted`` prompts, and
    ``coherent`` times the drift on the ``benign`` part. Where every prompt has a patch of its own,
    benign prompts get theirs.
    """
    patch = adversary.patch(model, bundle["wanted"])
    with applied(model, adversary.edit, patch):
        loss = objective(model, bundle)
    if not coherent:
        return loss
    return loss + coherent * drift(adversary, model, bundle["benign"], patch)


def drift(adversary: Adversary, model: Any, benign: Batch, patch: Patch) -> Tensor:
    """The :func:`coherence` of a model under a patch, or under benign prompts' own patches where
    every prompt has one."""
    with torch.no_grad():
        clean = logits(model, benign)
    if adversary.conditioning == "sample":
        patch = adversary.patch(model, benign)
    with applied(model, adversary.edit, patch):
        return coherence(clean, model, benign)
