"""The one training loop and the mathematics that plugs into it."""

from typing import TYPE_CHECKING

from titer.core.lazy import lazily

if TYPE_CHECKING:
    from titer.train.batches import (
        IGNORED,
        Batch,
        Bundle,
        bundles,
        collate,
        cycle,
        draw,
        encode_all,
        pack,
    )
    from titer.train.cohort import Finetuning, alone, together
    from titer.train.grads import exact, gradient
    from titer.train.loop import GradFn, Recipe, descend, fit
    from titer.train.objectives import (
        answer_kl,
        answer_loss,
        answer_losses,
        cross_entropy,
        kl_to,
        row_losses,
        token_losses,
    )
    from titer.train.optimisers import Optimiser, Schedule
    from titer.train.unlearn import (
        Phase,
        Retain,
        Terms,
        Training,
        Unlearner,
        descend_terms,
        logits,
        retain_loss,
        unlearner,
    )

__all__ = [
    "IGNORED",
    "Batch",
    "Bundle",
    "Finetuning",
    "GradFn",
    "Optimiser",
    "Phase",
    "Recipe",
    "Retain",
    "Schedule",
    "Terms",
    "Training",
    "Unlearner",
    "alone",
    "answer_kl",
    "answer_loss",
    "answer_losses",
    "bundles",
    "collate",
    "cross_entropy",
    "cycle",
    "descend",
    "descend_terms",
    "draw",
    "encode_all",
    "exact",
    "fit",
    "gradient",
    "kl_to",
    "logits",
    "pack",
    "retain_loss",
    "row_losses",
    "together",
    "token_losses",
    "unlearner",
]

__getattr__ = lazily(
    __name__,
    {
        "batches": "IGNORED Batch Bundle bundles collate cycle draw encode_all pack",
        "cohort": "Finetuning alone together",
        "grads": "exact gradient",
        "loop": "GradFn Recipe descend fit",
        "objectives": "answer_kl answer_loss answer_losses "
        "cross_entropy kl_to row_losses token_losses",
        "optimisers": "Optimiser Schedule",
        "unlearn": "Phase Retain Terms Training "
        "Unlearner descend_terms logits retain_loss unlearner",
    },
)
