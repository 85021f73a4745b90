"""Models, batches and edits that the hypernetwork's tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from titer.conformance import tiny_data, tiny_lm
from titer.core.lm import LM
from titer.hypernet import (
    Ablation,
    ActivationEdit,
    Adversary,
    LowRank,
    Patch,
    SoftPrompt,
    Steering,
)
from titer.hypernet.objectives import rivals
from titer.train.batches import Batch, Bundle, collate, encode_all

EDITS: dict[str, Any] = {
    "weights": LowRank(rank=3, budget=0.2),
    "weights-frobenius": LowRank(rank=3, budget=0.2, norm="frobenius"),
    "steering": Steering(budget=0.3),
    "steering-embedding": Steering(budget=0.3, where="embedding"),
    "activations": ActivationEdit(rank=2, budget=0.3),
    "ablation-read": Ablation(side="read", directions=2),
    "ablation-write": Ablation(side="write", directions=2),
    "soft-prompt": SoftPrompt(tokens=2, budget=1.0),
}
FROM_ZERO = [name for name in EDITS if name != "soft-prompt"]
FOLDED = [
    name for name in EDITS if name.startswith(("weights", "ablation")) or name.endswith("embedding")
]


def double(architecture: Any = "llama") -> LM:
    lm = tiny_lm(architecture)
    return LM(lm.model.double(), lm.tokenizer)


def batch_of(lm: LM, examples: Any) -> Batch:
    return collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)


def pairs(lm: LM, count: int = 4) -> Bundle:
    """Harmful answers wanted, refusals unwanted, and a benign batch; rows of unlike length."""
    harmful, retain = tiny_data().harmful[:count], tiny_data().retain[:count]
    return Bundle(
        {
            "wanted": batch_of(lm, harmful),
            "unwanted": batch_of(lm, rivals(harmful, "refusal")),
            "benign": batch_of(lm, retain),
        }
    )


def logits(lm: LM, batch: Batch) -> Tensor:
    """Logits at real tokens, zero at padding."""
    with torch.no_grad():
        out = lm.model(**batch.inputs(), use_cache=False).logits
    return out * batch.attention_mask[..., None]


def stir(adversary: Adversary, seed: int = 0, scale: float = 1.0) -> None:
    """Random weights everywhere, so that no slot is zero any more."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adversary.weights:
            noise = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
            weight += scale * noise


def tensors(patch: Patch) -> list[Tensor]:
    return [tensor for own in patch.values() for tensor in own.values()]
