"""One training step of ILU's penalties, and of SAM, against the NPO step that they are added to.

Random Llamas of nano size and of thirty million weights, random batches, every weight trains. The
environment's batch has as many rows as the forget and the retain batch. Goals: ``logit_scale`` at
most 1.6 times its base, ``grad_norm`` at most 3 times. Memory is what a step adds to the process at
its peak, gradients and AdamW's state included, each in a process of its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
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
from benchmarks.loop import nano, random_batches
from titer.core.data import Data
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.npo import NPO
from titer.train.batches import Bundle
from titer.train.grads import deposit, displaced, gradient, trained
from titer.train.penalties import Penalty, Place
from titer.train.unlearn import Terms

Grad = Callable[[Any, Bundle], None]

BASE = "npo"
PENALTIES: dict[str, dict[str, Any]] = {
    "loss (a control)": {"kind": "loss"},
    "logit_scale": {"kind": "logit_scale"},
    "logit_scale, 4 parts": {"kind": "logit_scale", "parts": 4},
    "param_scale": {"kind": "param_scale"},
    "grad_norm": {"kind": "grad_norm"},
    "grad_norm, 4 parts": {"kind": "grad_norm", "parts": 4},
    "grad_norm, double backward": {"kind": "grad_norm", "form": "exact"},
    "interaction": {"kind": "interaction"},
}
GOALS = {"logit_scale": 1.6, "grad_norm": 3.0}


def thirty() -> LM:
    """A model of thirty million weights."""
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    return LM(LlamaForCausalLM(config), None, "30 M, random")


def bundle(lm: LM, rows: int, tokens: int) -> Bundle:
    """Forget, retain and environment, alike in shape."""
    names = ("forget", "retain", "environment")
    batches = random_batches(int(lm.model.config.vocab_size), len(names), rows, tokens)
    return Bundle(dict(zip(names, batches, strict=True)))


def gradients(terms: Terms) -> dict[str, Grad]:
    """What each alternative adds to ``.grad``, by name; the base comes first."""

    def base(model: Any, parts: Bundle) -> None:
        terms.loss(model, parts).backward()

    def sam(model: Any, parts: Bundle) -> None:
        terms.retain(model, parts["retain"]).backward()
        weights = trained(model)
        here = gradient(terms.forget(model, parts["forget"]), weights)
        with displaced(weights, here, 0.01 / float(here.norm())):
            deposit(weights, gradient(terms.forget(model, parts["forget"]), weights))

    def penalised(penalty: Penalty, model: Any, parts: Bundle) -> None:
        def forget() -> Tensor:
            return terms.forget(model, parts["forget"])

        base(model, parts)
        penalty.add(model, [Place(parts["environment"])], 1.0, forget)

    found: dict[str, Grad] = {BASE: base, "sam": sam}
    for name, settings in PENALTIES.items():
        found[name] = partial(penalised, Penalty(**settings))
    return found


def stepper(lm: LM, rows: int, tokens: int) -> dict[str, Callable[[], None]]:
    """One optimiser step by each alternative, on weights of its own."""
    terms = NPO().terms(lm, Run(budget=Budget(), data=Data()))
    parts = bundle(lm, rows, tokens)

    def step(model: Any, optimiser: torch.optim.Optimizer, grad: Grad) -> None:
        optimiser.zero_grad(set_to_none=True)
        grad(model, parts)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    model = lm.clone().model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    return {name: partial(step, model, optimiser, grad) for name, grad in gradients(terms).items()}


def _timed(step: Callable[[], None], steps: int) -> Sample:
    return measured(lambda: [step() for _ in range(steps)])


def _status(key: str) -> float:
    """A memory figure of this process in MiB."""
    with open("/proc/self/status", encoding="ascii") as lines:
        found = next(line for line in lines if line.startswith(key))
    return int(found.split()[1]) / 1024


def _peak(make: str, name: str, rows: int, tokens: int, answer: Any) -> None:
    single_thread()
    lm = {"nano": nano, "30 M": thirty}[make]()
    step = stepper(lm, rows, tokens)[name]
    before = _status("VmRSS")
    step()
    step()
    answer.put(_status("VmHWM") - before)


def peak(make: str, name: str, rows: int, tokens: int) -> float:
    """MiB that two steps add to a fresh process at their peak."""
    context = multiprocessing.get_context("spawn")
    answer: Any = context.Queue()
    child = context.Process(target=_peak, args=(make, name, rows, tokens, answer))
    child.start()
    found = answer.get(timeout=600)
    child.join()
    return float(found)


def measure(
    make: str, lm: LM, *, rounds: int, steps: int, rows: int, tokens: int, memory: bool
) -> list[Figure]:
    """Times in interleaved rounds, and the peaks."""
    work = stepper(lm, rows, tokens)
    alternatives = {name: partial(_timed, step, steps) for name, step in work.items()}
    interleave({name: partial(_timed, step, 1) for name, step in work.items()}, 1)
    taken = interleave(alternatives, rounds)
    label = f"{make}, batch {rows}×{tokens}"
    cpu = [sample[BASE].cpu for sample in taken]
    figures = [absolute(f"{BASE}: {label}, cpu", "ms/step", cpu, per=steps / 1000)]
    for name in list(work)[1:]:
        found = ratio(f"{name}: {label}", taken, name, BASE, "cpu")
        goal = f", goal {GOALS[name]}" if name in GOALS else ""
        figures.append(
            Figure(
                what=found.what,
                unit=found.unit,
                median=found.median,
                low=found.low,
                high=found.high,
                against=found.against + goal,
            )
        )
    if memory:
        for name in work:
            figures.append(
                absolute(f"{name}: {label}, peak", "MiB", [peak(make, name, rows, tokens)], BASE)
            )
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=7)
    parser.add_argument("--steps", type=int, default=3, help="training steps a timing")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--only", choices=["nano", "30 M"], help="one of the two models")
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks out")
    asked = parser.parse_args(words)
    single_thread()
    figures: list[Figure] = []
    with watched():
        for make, lm, steps in (("nano", nano, asked.steps), ("30 M", thirty, 1)):
            if asked.only in (None, make):
                figures += measure(
                    make,
                    lm(),
                    rounds=asked.rounds,
                    steps=steps,
                    rows=asked.rows,
                    tokens=asked.tokens,
                    memory=not asked.no_memory,
                )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
