"""An attack in embedding space: a few invented words after every request, learnt by gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.attacks._templates import after_every_prompt, with_template
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.chance import seeded
from titer.train.batches import cycle
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss

__all__ = ["CARD", "PRESETS", "SoftPrompt"]


@dataclass(frozen=True, kw_only=True)
class SoftPrompt:
    """Learn ``tokens`` embeddings that, put after any harmful prompt, make its answer likely.

    Every other weight is frozen. The embeddings become new words of the vocabulary, which the chat
    template puts at the end of what the user says, so that the result is an ordinary model. They
    start at those of words drawn by the seed.

    Source: Schwinn et al. 2024, arXiv:2402.09063; row settings after arXiv:2407.15902.
    Departs: one prompt for all requests, not one for each; AdamW in the place of signed gradient
    steps.
    """

    lr: float = 1e-2
    tokens: int = 20
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.tokens < 1 or self.batch_size < 1:
            raise BadInput(
                f"soft_prompt: lr={self.lr}, tokens={self.tokens}, batch_size={self.batch_size}; "
                "all three must be positive."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if run.exhausted() or run.steps_left() < 1:
            return lm.clone()
        out = self._extended(lm, run)
        weight: Any = out.model.get_input_embeddings().weight
        fresh = torch.zeros(weight.shape[0], 1, device=out.device)
        fresh[len(out.tokenizer) - self.tokens : len(out.tokenizer)] = 1.0
        with _only(out, weight, fresh):
            fit(
                out,
                descend(answer_loss),
                cycle(
                    out,
                    run.data.harmful,
                    batch_size=self.batch_size,
                    rng=run.rng("order"),
                    role="harmful",
                    packed=True,
                ),
                run,
                parameters=[weight],
                recipe=Recipe(lr=self.lr, flops_per_token=4.0 * lm.parameters_in_matmuls()),
                steps=run.steps_left(),
            )
        return out

    def _extended(self, lm: LM, run: Run) -> LM:
        """A copy with new words, at the place of old ones, and a template that says them."""
        words = [f"<soft_{index}>" for index in range(self.tokens)]
        if known := set(words) & set(lm.tokenizer.get_vocab()):
            raise BadInput(f"soft_prompt: {lm.name} has the word {min(known)} already.")
        old = len(lm.tokenizer)
        out = with_template(lm, after_every_prompt(lm, " " + " ".join(words)))
        out.tokenizer.add_tokens(words, special_tokens=True)
        rows = out.model.get_input_embeddings().weight.shape[0]
        if rows < len(out.tokenizer):
            with seeded(0, lm.device):
                out.model.resize_token_embeddings(len(out.tokenizer), mean_resizing=False)
        rng, pad = run.rng("words"), lm.tokenizer.pad_token_id
        table = out.model.get_input_embeddings().weight
        head = out.model.get_output_embeddings()
        with torch.no_grad():
            if head is not None and head.weight is not table:
                # No answer should hold the new words; padding is what is never said.
                head.weight[old : len(out.tokenizer)] = head.weight[pad]
            for row in range(old, len(out.tokenizer)):
                table[row] = table[rng.randrange(old)]
        return out


@contextmanager
def _only(lm: LM, weight: nn.Parameter, fresh: Tensor) -> Iterator[None]:
    """Inside, only the rows of ``weight`` where ``fresh`` is 1 get a gradient."""
    flags = [(part, part.requires_grad) for part in lm.model.parameters()]
    for part, _ in flags:
        part.requires_grad_(False)
    weight.requires_grad_(True)
    handle = weight.register_hook(lambda grad: grad * fresh)
    try:
        yield
    finally:
        handle.remove()
        weight.grad = None
        for part, flag in flags:
            part.requires_grad_(flag)


PRESETS = {
    "I02": Preset(
        family="input",
        title="twenty learnt embeddings after every prompt",
        fields={"lr": 1e-2, "tokens": 20},
        steps=(200, 250),
        source="arXiv:2402.09063, arXiv:2407.15902",
    ),
}

CARD = Card(
    kind="attack",
    build=SoftPrompt,
    source="arXiv:2402.09063, arXiv:2407.15902",
    summary="learnt embeddings after every prompt, all weights frozen",
    family="input",
    departures="one prompt for all requests; AdamW in the place of signed gradient steps",
    presets=PRESETS,
)
