"""`titer.train.loop.fit` against the bare PyTorch loop that a person would write.

A Llama of nano size, random weights, the same ready-made batches, fused AdamW, clipping at 1 and a
cosine with warm-up on both sides: what is left is what the loop's accounting costs. Goal: a ratio
of at most 1.10 in CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle as forever
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    arguments,
    interleave,
    measured,
    ratio,
    show,
    single_thread,
    watched,
)
from titer.core.data import Data
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.trainable import Parameters, trainable
from titer.train.batches import IGNORED, Batch
from titer.train.loop import Recipe, descend, fit
from titer.train.objectives import answer_loss
from titer.train.optimisers import multiplier
from titer.worlds.organisms import SIZES

LR = 1e-3
WARMUP = 0.1


def nano() -> LM:
    """A model of nano size with random weights; the benchmark needs no tokenizer."""
    shape = SIZES["nano"]
    config = LlamaConfig(
        vocab_size=shape.words,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    return LM(LlamaForCausalLM(config), None, "nano, random")


def random_batches(vocabulary: int, count: int, rows: int, tokens: int) -> list[Batch]:
    """Batches without padding, loss on the second half of each row."""
    draw = torch.Generator().manual_seed(1)
    found: list[Batch] = []
    for index in range(count):
        ids = torch.randint(vocabulary, (rows, tokens), generator=draw)
        labels = ids.clone()
        labels[:, : tokens // 2] = IGNORED
        names = tuple(f"{index}-{row}" for row in range(rows))
        found.append(Batch(ids, torch.ones_like(ids), labels, names, rows * tokens))
    return found


def by_titer(
    lm: LM, weights: list[nn.Parameter], batches: Sequence[Batch], steps: int, flops: float
) -> list[float]:
    """Train with the loop; returns the losses."""
    run = Run(budget=Budget(steps=steps), data=Data())
    recipe = Recipe(lr=LR, schedule="cosine", warmup=WARMUP, flops_per_token=flops)
    fit(
        lm,
        descend(answer_loss),
        forever(batches),
        run,
        parameters=weights,
        recipe=recipe,
        steps=steps,
    )
    return run.losses


def by_hand(
    lm: LM, weights: list[nn.Parameter], batches: Sequence[Batch], steps: int
) -> list[float]:
    """The same steps, written out; returns the losses."""
    optimiser = torch.optim.AdamW(weights, lr=LR, weight_decay=0.0, fused=True)
    model: Any = lm.model
    model.train()
    losses: list[float] = []
    for step, batch in zip(range(steps), forever(batches), strict=False):
        optimiser.zero_grad(set_to_none=True)
        logits = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).logits
        loss = nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = LR * multiplier("cosine", step, steps, round(WARMUP * steps))
        optimiser.step()
        losses.append(loss.item())
    model.eval()
    return losses


def _timed(lm: LM, which: Parameters, batches: Sequence[Batch], steps: int, ours: bool) -> Sample:
    """One training run on a fresh copy; copying and wrapping are not timed."""
    with trainable(lm.clone(), which, rank=8, seed=3) as ready:
        work: Callable[[], object] = (
            (lambda: by_titer(ready.lm, ready.weights, batches, steps, ready.flops_per_token))
            if ours
            else (lambda: by_hand(ready.lm, ready.weights, batches, steps))
        )
        return measured(work)


def measure(*, rounds: int, steps: int, rows: int, tokens: int) -> list[Figure]:
    """Both loops, full and LoRA, in interleaved rounds."""
    lm = nano()
    batches = random_batches(SIZES["nano"].words, min(steps, 8), rows, tokens)
    figures: list[Figure] = []
    kinds: tuple[Parameters, ...] = ("full", "lora")
    for kind in kinds:
        alternatives = {
            "fit": partial(_timed, lm, kind, batches, steps, True),
            "bare loop": partial(_timed, lm, kind, batches, steps, False),
        }
        interleave(alternatives, 1)
        taken = interleave(alternatives, rounds)
        label = f"{kind}, batch {rows}×{tokens}"
        for name in alternatives:
            cpu = [sample[name].cpu for sample in taken]
            figures.append(absolute(f"{name}: {label}, cpu", "ms/step", cpu, per=steps / 1000))
        figures += [
            ratio(f"fit: {label}", taken, "fit", "bare loop", clock) for clock in ("cpu", "wall")
        ]
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=9)
    parser.add_argument("--steps", type=int, default=20, help="training steps a timing")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    asked = parser.parse_args(words)
    single_thread()
    with watched():
        figures = measure(
            rounds=asked.rounds, steps=asked.steps, rows=asked.rows, tokens=asked.tokens
        )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
