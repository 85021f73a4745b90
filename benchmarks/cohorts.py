"""Cohorts against the ways in which others train one adversary after another.

Random Llamas, ready-made rows of one length, LoRA of rank 8 on every linear layer or all weights,
AdamW, clipping at 1. Times are of an adversary's step in full swing; set-up is left out on every
side. On one thread the processor's own clock counts, on several the wall clock. The parts:

  lora, full  adversary-steps against the Hugging Face Trainer and a plain loop
  auto        automatic grouping against a plain loop
  workers     processes with cohorts against one process at torch's default threads
  busy        our rate with three of four cores taken by other work
  machine     share of the machine's own matrix-product rate
  memory      what a further adapter takes

Ratios are how many times as many adversary-steps are taken in the same time.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from unittest.mock import patch

from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    arguments,
    interleave,
    interval,
    median,
    ratio,
    show,
    watched,
)

PARTS = ("lora", "full", "auto", "workers", "busy", "machine", "memory")
MEMBERS = (1, 4, 16, 32)


def rates(
    which: str, name: str, threads: int, rounds: int, steps: int, cohorts: Sequence[int] = MEMBERS
) -> list[Figure]:
    """Trainer, plain loop, and titer at several cohort sizes."""
    import torch

    from benchmarks._peers import SIZES, build, by_loop, by_titer, by_trainer
    from titer.nn.weights import Parameters

    torch.set_num_threads(threads)
    size, lm = SIZES[name], build(SIZES[name])
    kind: Parameters = "lora" if which == "lora" else "full"
    alternatives: dict[str, Callable[[], Sample]] = {
        "Trainer": partial(by_trainer, lm, kind, size, steps),
        "plain loop": partial(by_loop, lm, kind, size, steps),
    }
    for members in cohorts:
        if kind == "full" and members * sum(w.numel() for w in lm.model.parameters()) > 40e6:
            continue
        alternatives[f"titer K={members}"] = partial(by_titer, lm, kind, size, steps, [members])
    interleave(alternatives, 1)
    taken = interleave(alternatives, rounds)
    clock = "cpu" if threads == 1 else "wall"
    label = f"{which} {name} {size.sequences}x{size.tokens}, {threads} thread(s)"
    first = [1.0 / getattr(sample["Trainer"], clock) for sample in taken]
    figures = [absolute(f"Trainer: {label}, {clock}", "steps/s", first)]
    return figures + [
        replace(ratio(f"{other}: {label}", taken, "Trainer", other, clock), against="Trainer")
        for other in alternatives
        if other != "Trainer"
    ]


def grouping(which: str, name: str, rounds: int, steps: int) -> list[Figure]:
    """Cohorts of the size that the planner would choose, against a plain loop, one thread."""
    import torch

    from benchmarks._peers import SIZES, build, by_loop, by_titer
    from titer.nn.weights import Parameters
    from titer.train.candidates import fill

    torch.set_num_threads(1)
    size, lm = SIZES[name], build(SIZES[name])
    kind: Parameters = "lora" if which == "lora" else "full"
    parameters = sum(weight.numel() for weight in lm.model.parameters())
    members = fill(size.sequences * size.tokens, parameters, adapters=kind == "lora")
    alternatives = {
        "plain loop": partial(by_loop, lm, kind, size, steps),
        "titer": partial(by_titer, lm, kind, size, steps, [members]),
    }
    interleave(alternatives, 1)
    taken = interleave(alternatives, rounds)
    figure = ratio(f"automatic K={members}: {which} {name}", taken, "plain loop", "titer", "cpu")
    return [replace(figure, against="plain loop")]


def _crowd(name: str, members: int, steps: int, gate: object, results: object) -> None:
    """A worker of :func:`workers`: its rate while all others work too."""
    import torch

    from benchmarks._peers import SIZES, build, by_titer

    torch.set_num_threads(1)
    lm = build(SIZES[name])
    by_titer(lm, "lora", SIZES[name], 3, [members])
    gate.wait()  # type: ignore[attr-defined]
    results.put(1.0 / by_titer(lm, "lora", SIZES[name], steps, [members]).wall)  # type: ignore[attr-defined]


def workers(name: str, rounds: int, steps: int) -> list[Figure]:
    """Four processes with a cohort each against one plain loop at torch's default threads."""
    import torch

    from benchmarks._peers import SIZES, build, by_loop

    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    values: list[float] = []
    for _ in range(rounds):
        gate, results = context.Barrier(cores), context.Queue()
        crowd = [
            context.Process(target=_crowd, args=(name, 4, steps, gate, results))
            for _ in range(cores)
        ]
        for one in crowd:
            one.start()
        together = sum(results.get() for _ in crowd)
        for one in crowd:
            one.join()
        torch.set_num_threads(cores)
        values.append(together * by_loop(build(SIZES[name]), "lora", SIZES[name], steps).wall)
    low, high = interval(values)
    return [
        Figure(
            what=f"{cores} workers x cohorts of 4: lora {name}, wall",
            unit="ratio",
            median=median(values),
            low=low,
            high=high,
            against=f"plain loop, 1 process x {cores} threads",
        )
    ]


def _spin() -> None:
    while True:
        pass


def busy(name: str, rounds: int, steps: int) -> list[Figure]:
    """Our rate on one thread with all other cores taken, against the same with them free."""
    import torch

    from benchmarks._peers import SIZES, build, by_titer

    torch.set_num_threads(1)
    size, lm = SIZES[name], build(SIZES[name])
    by_titer(lm, "lora", size, 3, [4])
    context = multiprocessing.get_context("spawn")
    values: list[float] = []
    for _ in range(rounds):
        free = by_titer(lm, "lora", size, steps, [4]).wall
        others = [
            context.Process(target=_spin, daemon=True)
            for _ in range(len(os.sched_getaffinity(0)) - 1)
        ]
        for one in others:
            one.start()
        time.sleep(1.0)
        values.append(free / by_titer(lm, "lora", size, steps, [4]).wall)
        for one in others:
            one.terminate()
            one.join()
    low, high = interval(values)
    return [
        Figure(
            what=f"other cores busy: lora {name}, 1 thread, wall",
            unit="ratio",
            median=median(values),
            low=low,
            high=high,
            against="our rate with them free",
        )
    ]


def machine(name: str, members: int, rounds: int, steps: int) -> list[Figure]:
    """Useful operations a second (4 a frozen weight and token, 6 an adapter's) over the rate of a
    square matrix product of 1,024, one thread."""
    import torch

    from benchmarks._peers import SIZES, build, by_titer, useful

    torch.set_num_threads(1)
    size, lm = SIZES[name], build(SIZES[name])
    work = useful(lm, size)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    shares: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(10):
            a @ b
        peak = 10 * 2 * 1024**3 / (time.process_time() - began)
        shares.append(work / by_titer(lm, "lora", size, steps, [members]).cpu / peak)
    return [absolute(f"lora {name}, K={members}, 1 thread", "of the matrix rate", shares)]


def _resident(name: str, members: int, results: object) -> None:
    """A process of its own, whose largest size is asked."""
    import resource

    import torch

    from benchmarks._peers import SIZES, build, by_titer

    torch.set_num_threads(1)
    by_titer(build(SIZES[name]), "lora", SIZES[name], 2, [members])
    results.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # type: ignore[attr-defined]


_ALLOCATORS = {"gives back at once": str(2**16), "keeps, as a study's workers": str(2**30)}
"""How glibc treats large tensors. What the first takes at most is what is alive at most; the second
is faster, since it asks the system for no page twice, and larger."""


def memory(name: str, rounds: int) -> list[Figure]:
    """Bytes of a further adapter (from peak sizes at K = 8 and 24), against 16 a parameter plus the
    activations that a single one keeps for its backward pass."""
    from benchmarks._peers import SIZES, adapter_bytes, build

    predicted = adapter_bytes(build(SIZES[name]), SIZES[name])
    context = multiprocessing.get_context("spawn")
    figures: list[Figure] = []
    for allocator, threshold in _ALLOCATORS.items():
        setting = {key: threshold for key in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")}
        values: list[float] = []
        for _ in range(rounds):
            sizes: list[int] = []
            for members in (8, 24):
                results = context.Queue()
                one = context.Process(target=_resident, args=(name, members, results))
                with patch.dict(os.environ, setting):
                    one.start()
                sizes.append(results.get())
                one.join()
            values.append((sizes[1] - sizes[0]) / 16 / predicted)
        against = f"16 B x parameters + activations = {predicted / 2**20:.1f} MiB"
        what = f"memory of a further adapter: lora {name}, allocator {allocator}"
        figures.append(absolute(what, "ratio", values, against))
    return figures


def measure(
    parts: Sequence[str],
    sizes: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    steps: int,
    cohorts: Sequence[int] = MEMBERS,
) -> list[Figure]:
    """All the parts asked for."""
    figures: list[Figure] = []
    for part in parts:
        print(f"{part} …", file=sys.stderr, flush=True)
        if part in ("lora", "full"):
            for name in sizes:
                for count in threads:
                    figures += rates(part, name, count, rounds, steps, cohorts)
        elif part == "auto":
            for name in sizes:
                figures += grouping("lora", name, rounds, steps)
                figures += grouping("full", name, rounds, steps)
        elif part == "workers":
            figures += workers("S", min(3, rounds), steps)
        elif part == "busy":
            figures += busy("S", rounds, steps)
        elif part == "machine":
            for name in sizes:
                figures += machine(name, 4, rounds, steps)
        else:
            figures += memory("S", min(3, rounds))
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", choices=("XS", "S", "M", "L"), default=["XS", "S"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS))
    parser.add_argument("--steps", type=int, default=12, help="steps a timing")
    asked = parser.parse_args(words)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ and words is None:
        # glibc hands large tensors back to the system at once and takes them anew in every step.
        # The workers of a study set this too, and every alternative here runs with it.
        os.environ.update(MALLOC_MMAP_THRESHOLD_=str(2**30), MALLOC_TRIM_THRESHOLD_=str(2**30))
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.cohorts", *sys.argv[1:]])
    with watched():
        figures = measure(
            asked.part, asked.sizes, asked.threads, asked.rounds, asked.steps, asked.members
        )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
