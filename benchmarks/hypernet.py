"""One forward pass of a hypernetwork against a K-step inner loop, generating and defending.

*Attack*: from a batch of prompts to an attack on the model; the inner loop takes K AdamW steps on a
copy of the weights, each on the preference loss that the network's adversary has too (a loss of one
answer, as fine-tuning has, would cost it half). *Step*: a whole step of the defender; by
hypernetwork, one turn of the adversary and the defender's gradient and update (`antidote`), on
batches of their own or from one pass for both (``together``); by inner loop, K steps on a copy, the
gradient of the same losses there, and the update. All see batches of the same size, and the network
is as wide as a tenth of the model's weights allow. Random Llamas without padding. Goals: a step at
least 30 times cheaper than with K = 64 and 4 times than with K = 8, the same at every size.

*Memory*: what the network keeps in training (its weights, and their moments) as a share of what the
model keeps (weights, gradients, moments), and the most that a step allocates over what was there
before it, counted by the allocator; *plain* is the defender's step against nobody.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
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


KS = (8, 64)
"""Steps of the inner loop."""


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
        self.simulated: list[Sample] = []

    def count(self) -> tuple[int, int]:
        """Weights of the model and of the network."""
        return tuple(  # type: ignore[return-value]
            sum(w.numel() for w in weights) for weights in (self.weights, self.adversary.weights)
        )

    def generate(self) -> None:
        """One attack by the network."""
        with torch.no_grad():
            self.adversary.patch(self.lm.model, self.bundle["wanted"])

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

    def plain(self) -> None:
        """The same against nobody."""
        self.optimiser.zero_grad(set_to_none=True)
        self._resist(self.lm.model)
        self._keep()
        self.optimiser.step()

    def unroll(self, steps: int) -> None:
        """A step of the defender against a simulated attacker, first order: the gradient at the
        attacked weights is used for the clean ones, as tamper-resistant training does. What the
        attack alone took is added to ``simulated``."""
        found: list[Any] = []
        self.simulated.append(
            measured(lambda: found.append(inner(self.lm.model, self.bundle, steps)))
        )
        (attacked,) = found
        self.optimiser.zero_grad(set_to_none=True)
        attacked.zero_grad(set_to_none=True)
        self._resist(attacked)
        self._keep()
        for weight, far in zip(self.weights, attacked.parameters(), strict=True):
            if weight.grad is not None and far.grad is not None:
                weight.grad += far.grad
        self.optimiser.step()

    def _resist(self, model: Any) -> None:
        harm = margins(model, self.bundle)
        preference(-harm, torch.zeros(()), "log-sigmoid", 1.0).backward()

    def _keep(self) -> None:
        benign = self.bundle["benign"]
        out = logits(self.lm.model, benign)
        with torch.no_grad():
            before = logits(self.start, benign)
        drift = kl_to(out, before, benign.labels)
        (0.8 * cross_entropy(out, benign.labels) + 0.3 * drift).backward()


@contextmanager
def allocating() -> Iterator[list[int]]:
    """Yields a list that gets the most bytes held at once inside, over those held before."""
    peak: list[int] = []
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        yield peak
    events: Any = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    peak.append(most)


def memory(bench: Bench, size: str) -> list[Figure]:
    """What is kept and what a step takes; every step has been taken once before."""
    model, network = bench.count()
    # Weights and two moments; the network's gradients live only within its step, the model's stay.
    kept = 100 * 3 * network / (4 * model)
    found = [absolute(f"{size}: kept for the network", "% of the model's", [kept], "10")]
    taken: dict[str, int] = {}
    steps: dict[str, Callable[[], None]] = {
        "plain": bench.plain,
        "network": bench.play,
        "one pass": bench.share,
        "K=8": lambda: bench.unroll(8),
    }
    for name, step in steps.items():
        bench.optimiser.zero_grad(set_to_none=True)
        with allocating() as peak:
            step()
        (taken[name],) = peak
    found += [
        absolute(f"{size}: memory of a step, {name}", "MB", [most / 1e6])
        for name, most in taken.items()
    ]
    return found


def measure(
    *, sizes: Sequence[str], rounds: int, rows: int, tokens: int, rank: int = 4
) -> list[Figure]:
    """Both ways at every size, in interleaved rounds."""
    figures: list[Figure] = []
    for size in sizes:
        bench = Bench(size, rows, tokens, rank)
        attacks: dict[str, list[Sample]] = {f"attack, K={steps}": [] for steps in KS}

        def unrolled(steps: int, bench: Bench = bench, attacks: Any = attacks) -> Sample:
            whole = measured(lambda: bench.unroll(steps))
            attacks[f"attack, K={steps}"].append(bench.simulated[-1])
            return whole

        works: dict[str, Callable[[], None]] = {
            "attack, network": bench.generate,
            "step, network": bench.play,
            "step, one pass": bench.share,
        }
        timed = {name: lambda work=work: measured(work) for name, work in works.items()}
        timed |= {f"step, K={steps}": lambda steps=steps: unrolled(steps) for steps in KS}
        for work in works.values():
            work()
        bench.unroll(1)
        taken = [
            {**one, **{name: samples[place] for name, samples in attacks.items()}}
            for place, one in enumerate(interleave(timed, rounds))
        ]
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
            for steps, goal in zip(KS, goals, strict=True):
                loop = f"{kind}, K={steps}"
                way = ours.split(", ")[1]
                found = ratio(f"{size}: {loop} by {way}", taken, loop, ours, "cpu")
                figures.append(replace(found, against=f"{way}{goal}"))
        figures += memory(bench, size)
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
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
