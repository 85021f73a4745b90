"""Cohorts on a graphics card: random Llamas in bfloat16, LoRA of rank 8, 512 tokens a step.

Adversary-steps a second against the Hugging Face Trainer and a plain loop, the share of the card's
own matrix-product rate, and memory against 16 bytes an adapter's parameter plus its activations.
Goals at K = 16 against the serial loop: 8 times at 0.5 B, 4 at 1.2 B, 1.6 at 8 B; 26 adversaries
beside one copy of the base; 45 % of the matrix rate where arithmetic is the limit. With
`--device cpu` the same code runs anywhere, at sizes that fit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    arguments,
    interleave,
    ratio,
    show,
    watched,
)

MEMBERS = (1, 8, 16, 26)


def rates(
    name: str, device: str, dtype: str, members: Sequence[int], rounds: int, steps: int
) -> list[Figure]:
    """All alternatives on one size; cohorts that do not fit are left out, by name."""
    import torch

    from benchmarks._peers import SIZES, adapter_bytes, build, by_loop, by_titer, by_trainer, useful

    size, lm = SIZES[name], build(SIZES[name], getattr(torch, dtype), device)
    alternatives: dict[str, Callable[[], Sample]] = {
        "Trainer": partial(by_trainer, lm, "lora", size, steps),
        "plain loop": partial(by_loop, lm, "lora", size, steps),
    }
    figures: list[Figure] = []
    base, each = _held(device), adapter_bytes(lm, size)
    for count in members:
        one = partial(by_titer, lm, "lora", size, steps, [count])
        try:
            peak = _peak(device, one)
        except torch.cuda.OutOfMemoryError:
            print(f"{name}: {count} adversaries do not fit.", file=sys.stderr)
            continue
        alternatives[f"titer K={count}"] = one
        if peak:
            what = f"{name}: memory of {count} adversaries beside the base"
            said = f"predicted {count * each / 2**30:.1f} GiB"
            figures.append(absolute(what, "ratio", [(peak - base) / (count * each)], said))
    interleave(alternatives, 1)
    taken = interleave(alternatives, rounds)
    work, best = useful(lm, size), _matrix_rate(device, dtype)
    first = [1.0 / sample["Trainer"].wall for sample in taken]
    figures.insert(0, absolute(f"{name}: Trainer", "steps/s", first))
    for other in alternatives:
        if other == "Trainer":
            continue
        for against in ("Trainer", "plain loop"):
            if other != against:
                one = ratio(f"{name}: {other}", taken, against, other, "wall")
                figures.append(replace(one, against=against))
        shares = [work / sample[other].wall / best for sample in taken]
        figures.append(absolute(f"{name}: {other}", "of the matrix rate", shares))
    return figures


def _matrix_rate(device: str, dtype: str) -> float:
    """Operations a second of square matrix products."""
    import time

    import torch

    side = 8192 if device.startswith("cuda") else 512
    a = torch.randn(side, side, device=device).to(getattr(torch, dtype))
    for count in (3, 20):
        _wait(device)
        began = time.perf_counter()
        for _ in range(count):
            a @ a
        _wait(device)
        rate = count * 2 * side**3 / (time.perf_counter() - began)
    return rate


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _held(device: str) -> int:
    import torch

    return torch.cuda.memory_allocated(device) if device.startswith("cuda") else 0


def _peak(device: str, work: Callable[[], object]) -> int:
    """Run once; the most that was alive meanwhile in bytes, 0 where the device does not count."""
    import torch

    if not device.startswith("cuda"):
        work()
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device)


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--sizes", nargs="+", default=["0.5B", "1.2B", "8B"])
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS))
    parser.add_argument("--steps", type=int, default=12, help="steps a timing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    asked = parser.parse_args(words)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import torch

    from benchmarks._peers import SIZES

    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no graphics card is seen; --device cpu --sizes XS runs the same code.")
    if unknown := set(asked.sizes) - set(SIZES):
        parser.error(f"--sizes {' '.join(sorted(unknown))}: there are {', '.join(SIZES)}.")
    figures: list[Figure] = []
    with watched():
        for name in asked.sizes:
            figures += rates(
                name, asked.device, asked.dtype, asked.members, asked.rounds, asked.steps
            )
    show(figures, as_json=asked.json)


if __name__ == "__main__":
    main()
