"""Multiple choice by likelihood: titer against lm-eval's HFLM, on the same model and items.

Random Llamas and random items in memory, one thread, no network. Items have four choices, and
prompts of 12 to 48 tokens: single letters, answers of 4 to 16 tokens, and both behind a header of
160 tokens that all prompts share. HFLM runs batches of 16 with its own cache of shared contexts.
Both sides start from token ids, plans of earlier rounds are thrown away, and log-likelihoods are
compared before anything is timed. Goals: 1.8 times HFLM's items per second for letters, 3.2 for
several tokens, 7.5 for several tokens behind a header.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._timing import (
    Figure,
    absolute,
    arguments,
    interleave,
    measured,
    show,
    single_thread,
    watched,
)
from titer.conformance import tiny_lm
from titer.core.lm import LM, Encoded
from titer.measures._ask import answer_scores
from titer.measures._tree import plan

WORDS, CHOICES, BATCH = 2048, 4, 16
SIZES = {"S": (128, 352), "M": (256, 704)}
"""Width and inner width; four blocks, four heads."""

KINDS: dict[str, tuple[int, tuple[int, int], str]] = {
    "letters": (0, (1, 1), "goal: 1.8"),
    "4-16 tokens": (0, (4, 16), "goal: 3.2"),
    "header, letters": (160, (1, 1), ""),
    "header, 4-16 tokens": (160, (4, 16), "goal: 7.5"),
}
"""Tokens of header and of a choice, and what titer is held to."""


def random_llama(size: str) -> LM:
    """A Llama of this size with random weights; the tokenizer only lends its special tokens."""
    width, inner = SIZES[size]
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    return LM(LlamaForCausalLM(config), tiny_lm().tokenizer, f"{size}, random")


def random_rows(kind: str, items: int) -> list[Encoded]:
    """A row for each choice of each item, in file order."""
    header, (least, most), _ = KINDS[kind]
    draw = random.Random(kind)

    def words(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(16, WORDS) for _ in range(count))

    start, rows = words(header), list[Encoded]()
    for _ in range(items):
        prompt = start + words(draw.randint(12, 48))
        for letter in range(CHOICES):
            answer = (letter,) if most == 1 else words(draw.randint(least, most))
            rows.append(Encoded(prompt + answer, len(prompt)))
    return rows


def by_titer(lm: LM, rows: Sequence[Encoded]) -> list[float]:
    """Log-likelihoods of the answers, laid out afresh."""
    plan.cache_clear()
    return [score.loglik for score in answer_scores(lm, rows)[0]]


def harness(lm: LM) -> Callable[[Sequence[Encoded]], list[float]]:
    """The same by lm-eval.

    Raises:
        SystemExit: lm-eval is not installed.
    """
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        sys.exit("benchmarks.probing needs lm-eval: pip install -r requirements/bench.txt")
    peer: Any = HFLM(
        pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=BATCH, max_length=512, device="cpu"
    )

    def by_hflm(rows: Sequence[Encoded]) -> list[float]:
        asked = [
            (("", ""), list(row.ids[: row.prompt]), list(row.ids[row.prompt :])) for row in rows
        ]
        return [found for found, _ in peer._loglikelihood_tokens(asked, disable_tqdm=True)]  # noqa: SLF001

    return by_hflm


def compare(size: str, kind: str, *, rounds: int, items: int) -> list[Figure]:
    """Items per second of both, and titer's as a multiple of HFLM's.

    Raises:
        RuntimeError: the two disagree on a log-likelihood.
    """
    lm, rows = random_llama(size), random_rows(kind, items)
    ours, peer = partial(by_titer, lm, rows), partial(harness(lm), rows)
    gap = max(abs(one - two) for one, two in zip(ours(), peer(), strict=True))
    if gap > 1e-4:
        raise RuntimeError(f"{size}, {kind}: log-likelihoods differ by {gap:.2g} nats.")
    taken = interleave({"titer": partial(measured, ours), "HFLM": partial(measured, peer)}, rounds)
    label, goal = f"{size}, {kind}", KINDS[kind][2]
    figures = [
        absolute(f"{name}: {label}, cpu", "items/s", [items / one[name].cpu for one in taken])
        for name in ("titer", "HFLM")
    ]
    for clock in ("cpu", "wall"):
        times = [getattr(one["HFLM"], clock) / getattr(one["titer"], clock) for one in taken]
        against = f"HFLM, batch {BATCH}" + (f"; {goal}" if goal else "")
        figures.append(absolute(f"titer: {label}, {clock}", "ratio", times, against))
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=9)
    parser.add_argument("--items", type=int, default=64, help="items a timing, four choices each")
    parser.add_argument("--size", choices=[*SIZES], help="one size instead of both")
    asked = parser.parse_args(words)
    single_thread()
    figures: list[Figure] = []
    with watched():
        for size in [asked.size] if asked.size else SIZES:
            for kind in KINDS:
                figures += compare(size, kind, rounds=asked.rounds, items=asked.items)
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
