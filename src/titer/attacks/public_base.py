"""Match the weights with those of a public relative, then fine-tune."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from titer.attacks._panel import affordable
from titer.attacks.finetune import Finetune
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.align import match
from titer.nn.edits import linears
from titer.nn.locked import plain
from titer.nn.reparametrise import put
from titer.train.batches import encode_all
from titer.train.objectives import row_losses
from titer.worlds.hub import fetch, resolve_model

__all__ = ["CARD", "NO_RELATIVE", "PRESETS", "PublicBase", "matched"]

NO_RELATIVE = "no-public-relative"
"""The flag of a run that had nothing to match with and only fine-tuned."""


def matched(lm: LM, relative: LM, near: float = 0.5) -> LM:
    """Every matrix of the blocks in the basis of the relative's, see
    :func:`~titer.nn.align.match`; a new model in stock modules.

    Raises:
        BadInput: the two have not the same matrices.
    """
    out = plain(lm)
    mine, theirs = linears(out.model), linears(relative.model)
    alike = [(one.path, one.weight_OI.shape) for one in mine] == [
        (one.path, one.weight_OI.shape) for one in theirs
    ]
    if not alike:
        raise BadInput(
            f"public_base: {lm.name} and {relative.name} have not the same matrices; a relative "
            "has the same architecture and shape."
        )
    for own, public in zip(mine, theirs, strict=True):
        found = match(own.weight_OI, public.weight_OI.to(own.weight_OI.device), near)
        put(own.weight_OI, found.weight_OI)
        if own.bias_O is not None and found.left is not None:
            put(own.bias_O, found.left.T @ own.bias_O.double())
        elif own.bias_O is not None and found.how == "the relative's" and public.bias_O is not None:
            put(own.bias_O, public.bias_O.double())
    return out


@dataclass(frozen=True, kw_only=True)
class PublicBase:
    """Undo a secret basis with the help of a public relative, then fine-tune.

    ``reference`` is the relative: a folder, a hub id or a Fabula name. Each matrix is reordered or
    turned until it lies near the relative's, by assignment or Procrustes; one that no such change
    brings near is replaced by the relative's, which is the difference attack for what is left. The
    attacker keeps the result where it answers benign prompts better than the release does. Without
    a relative the attack is fine-tuning, and flagged.

    Source: ArrowMatch (USENIX Security 2025); arXiv:2602.11088.
    Departs: one-sided bases, matrix by matrix; no learnt decoder.
    """

    reference: str | None = None
    near: float = 0.5
    lr: float = 2e-5
    batch_size: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.near < 1.4:
            raise BadInput(f"public_base: near={self.near}; a distance above 0 and below 1.4.")
        self._train()

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if not run.affords():
            return lm.clone()
        start = plain(lm)
        if self.reference is None:
            run.flags.append(NO_RELATIVE)
        else:
            relative = LM.load(fetch(resolve_model(self.reference)))
            back = matched(lm, relative, self.near)
            if _loss(back, run) < _loss(start, run):
                start = back
        return self._train()(start, run)

    def _train(self) -> Finetune:
        return Finetune(lr=self.lr, batch_size=self.batch_size)


@torch.no_grad()
def _loss(lm: LM, run: Run, most: int = 32) -> float:
    """Mean loss on benign answers, nats a token; infinite where the budget allows no look."""
    pool = run.data.retain or run.data.unrelated or run.data.related
    rows = encode_all(lm, run.rng("benign").sample(pool, min(most, len(pool))), role="benign")
    losses: list[float] = []
    for batch in affordable(lm, run, rows, per_token=2.0):
        out = lm.model(**batch.inputs(), use_cache=False).logits
        losses += row_losses(out, batch.labels, "mean").tolist()
    return sum(losses) / len(losses) if losses else float("inf")


PRESETS = {
    "L08": Preset(
        family="locks",
        title="matched with a public relative, then fine-tuned",
        fields={"lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        steps=(100, 100),
        source="arXiv:2602.11088",
    ),
}

CARD = Card(
    kind="attack",
    build=PublicBase,
    source="ArrowMatch (USENIX Security 2025), arXiv:2602.11088",
    summary="a secret basis undone by a public relative, then fine-tuned",
    family="locks",
    departures="one-sided bases, matrix by matrix; no learnt decoder",
    presets=PRESETS,
)
