"""One forward pass of a hypernetwork against a K-step inner loop, generating and defending.

*Attack*: from a batch of prompts to an attack on the model; the inner loop takes K AdamW steps on a
copy of the weights, each on the preference loss that the network's adversary has too (a loss of one
answer, as fine-tuning has, would cost it half). *Step*: a whole step of the defender; by
hypernetwork, one turn of the adversary and the defender's gradient and update (`antidote`), on
batches of their own or from one pass for both (``together``); by inner loop, K steps on a copy, the
gradient of the same losses there, and the update. All see batches of the same size, and the network
is as wide as a tenth of the model's weights allow. Random Llamas without padding. Goals: a step at
least 30 times cheaper than with K = 64 and 4 times than with K = 8, the same at every size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._timing import (
    Figure,
    absolute,
    arguments,
    interleave,
    measured,
    ratio,
    show,
    single_thread,
    watched,
)
from titer.core.lm import LM
from titer.defences.antidote import Antidote
from titer.hypernet import LowRank, attacker
from titer.hypernet.game import Game
from titer.hypernet.objectives import logits, margins, preference, preferring
from titer.train.batches import IGNORED, Batch, Bundle
from titer.train.objectives import cross_entropy, kl_to
from titer.train.optimisers import build_optimiser

SIZES = {"0.2M": (2, 80), "0.8M": (3, 128), "4M": (5, 240), "40M": (12, 512)}
"""Blocks and width by name; the names are rounded counts of weights."""

WORDS = 512


def random_llama(size: str) -> LM:
    """A model of a size with random weights; nothing here needs a tokenizer."""
    layers, width = SIZES[size]
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=width,
        intermediate_size=int(2.75 * width),
        num_hidden_layers=layers,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 16,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    return LM(LlamaForCausalLM(config), None, f"{size}, random")


def random_pairs(rows: int, tokens: int) -> Bundle:
    """Wanted and unwanted answers to the same prompts, and benign text; half of each row answer."""
    draw = torch.Generator().manual_seed(1)
    prompt, *answers = (torch.randint(WORDS, (rows, tokens // 2), generator=draw) for _ in range(4))
    parts: dict[str, Batch] = {}
    for name, answer in zip(("wanted", "unwanted", "benign"), answers, strict=True):
        ids = torch.cat([prompt, answer], 1)
        labels = torch.cat([torch.full_like(prompt, IGNORED), answer], 1)
        names = tuple(f"{name}-{row}" for row in range(rows))
        parts[name] = Batch(ids, torch.ones_like(ids), labels, names, ids.numel())
    return Bundle(parts)


def inner(model: Any, bundle: Bundle, steps: int) -> Any:
    """The attacked copy after so many steps of AdamW toward the harmful answers."""
    wants = preferring()
    attacked = copy.deepcopy(model)
    weights = list(attacked.parameters())
    optimiser = build_optimiser("adamw", [{"params": weights, "lr": 1e-4, "weight_decay": 0.0}])
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        wants(attacked, bundle).backward()
        optimiser.step()
    return attacked


class Bench:
    """A defender of one size, and both ways to attack it."""

    def __init__(self, size: str, rows: int, tokens: int, rank: int = 4) -> None:
        self.lm, self.bundle = random_llama(size), random_pairs(rows, tokens)
        self.start = self.lm.clone().model
        self.weights = list(self.lm.model.parameters())
        self.optimiser = build_optimiser(
            "adamw", [{"params": self.weights, "lr": 1e-5, "weight_decay": 0.0}]
        )
        rules = Antidote(edit_rank=rank, budget=0.5, parameters="full")
        self.adversary = attacker(
            self.lm,
            LowRank(rank=rank, budget=0.5),
            self.bundle["wanted"],
            conditioning="batch",
            width=None,
        )
        self.game = Game(rules, self.start, [self.adversary], self.weights)
        together = replace(rules, together=True)
        self.shared = Game(together, self.start, [self.adversary], self.weights)
        pair = {side: self.bundle[side] for side in ("wanted", "unwanted")}
        turn = {f"{side} {k}": batch for k in (0, 1) for side, batch in pair.items()}
        self.turns = Bundle({"benign": self.bundle["benign"], **turn})
        self.one = Bundle(
            {"benign": self.bundle["benign"], **{f"{s} 0": batch for s, batch in pair.items()}}
        )

    def count(self) -> tuple[int, int]:
        """Weights of the model and of the network."""
        return tuple(  # type: ignore[return-value]
            sum(w.numel() for w in weights) for weights in (self.weights, self.adversary.weights)
        )

    def generate(self) -> None:
        """One attack by the network."""
        with torch.no_grad():
            self.adversary.patch(self.lm.model, self.bundle["wanted"])

    def simulate(self, steps: int) -> None:
        """One attack by so many gradient steps."""
        inner(self.lm.model, self.bundle, steps)

    def play(self) -> None:
        """A step of the defender against the network."""
        self.optimiser.zero_grad(set_to_none=True)
        self.game(self.lm.model, self.turns)
        self.optimiser.step()

    def share(self) -> None:
        """The same with one pass for both players."""
        self.optimiser.zero_grad(set_to_none=True)
        self.shared(self.lm.model, self.one)
        self.optimiser.step()

    def unroll(self, steps: int) -> None:
        """A step of the defender against a simulated attacker, first order: the gradient at the
        attacked weights is used for the clean ones, as tamper-resistant training does."""
        attacked = inner(self.lm.model, self.bundle, steps)
        self.optimiser.zero_grad(set_to_none=True)
        attacked.zero_grad(set_to_none=True)
        harm = margins(attacked, self.bundle)
        preference(-harm, torch.zeros(()), "log-sigmoid", 1.0).backward()
        benign = self.bundle["benign"]
        out = logits(self.lm.model, benign)
        with torch.no_grad():
            before = logits(self.start, benign)
        drift = kl_to(out, before, benign.labels)
        (0.8 * cross_entropy(out, benign.labels) + 0.3 * drift).backward()
        for weight, far in zip(self.weights, attacked.parameters(), strict=True):
            if weight.grad is not None and far.grad is not None:
                weight.grad += far.grad
        self.optimiser.step()


def measure(
    *, sizes: Sequence[str], rounds: int, rows: int, tokens: int, rank: int = 4
) -> list[Figure]:
    """Both ways at every size, in interleaved rounds."""
    figures: list[Figure] = []
    for size in sizes:
        bench = Bench(size, rows, tokens, rank)
        works: dict[str, Callable[[], None]] = {
            "attack, network": bench.generate,
            "attack, K=8": lambda bench=bench: bench.simulate(8),
            "attack, K=64": lambda bench=bench: bench.simulate(64),
            "step, network": bench.play,
            "step, one pass": bench.share,
            "step, K=8": lambda bench=bench: bench.unroll(8),
            "step, K=64": lambda bench=bench: bench.unroll(64),
        }
        timed = {name: lambda work=work: measured(work) for name, work in works.items()}
        bench.generate()
        bench.play()
        bench.share()
        bench.unroll(1)
        taken = interleave(timed, rounds)
        model, network = bench.count()
        share = 100 * network / model
        figures.append(absolute(f"{size}: network's weights", "% of the model's", [share], "10"))
        ways = [
            ("attack", "attack, network", ("", "")),
            ("step", "step, network", ("; goal 4", "; goal 30")),
            ("step", "step, one pass", ("; goal 4", "; goal 30")),
        ]
        for kind, ours, goals in ways:
            cpu = [one[ours].cpu for one in taken]
            figures.append(absolute(f"{size}: {ours}, cpu", "ms", cpu, per=1e-3))
            for steps, goal in zip((8, 64), goals, strict=True):
                loop = f"{kind}, K={steps}"
                way = ours.split(", ")[1]
                found = ratio(f"{size}: {loop} by {way}", taken, loop, ours, "cpu")
                figures.append(replace(found, against=f"{way}{goal}"))
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["0.2M", "0.8M", "4M"])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rank", type=int, default=4, help="of the patches; the paper has 8")
    asked = parser.parse_args(words)
    single_thread()
    with watched():
        figures = measure(
            sizes=asked.sizes,
            rounds=asked.rounds,
            rows=asked.rows,
            tokens=asked.tokens,
            rank=asked.rank,
        )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
