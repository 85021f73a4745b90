"""What `--dry-run` and `titer doctor` foretell, against what the work then takes.

Every piece of work runs in a process of its own on one thread, on Fabula's data: processor seconds
of the work itself, and the most memory that the process held. Models: the testbed's, a random Llama
of 40 million weights, and any folder that ``--model`` names. ``--suite`` also runs the whole of
``quick`` on the testbed's model, capped at 30 steps. Goals: 1.5 times in time, 1.2 in memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._timing import Figure, arguments, children, gathered, show, single_thread, watched

WORK = ("npo", "ilu", "S03", "P02", "V01", "R03", "W04", "H03")
STEPS = {"npo": 3, "ilu": 2, "S03": 6, "P02": 6, "V01": 0, "R03": 2, "W04": 6, "H03": 6}
SMALL = 20
"""How many times as many steps a model of a million weights takes."""
LARGE = 3
"""How many times fewer one of more than a hundred million."""


def forty_million(folder: Path) -> str:
    """A random Llama of 40 million weights with the testbed's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import titer

    tokenizer = titer.load("fabula:base").tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def planned(model: str, name: str, prices: Any) -> Any:
    """What is foretold of one piece of work."""
    import titer
    from titer.core import catalogue
    from titer.trial.immunise import planned as immunisation
    from titer.trial.presets import adversary

    scope = titer.world("fabula")["A"]
    size = prices.lm.parameters()
    steps = steps_of(name, size)
    if name in catalogue.names("defence"):
        whose = {"base": "", "parameters": size}
        return prices.immunising(immunisation(name, {}, scope, **whose, steps=steps), scope.world)
    trial = adversary(name, {}, size).trial(
        scope, model="", subject="", suite="", items=72, steps=steps
    )
    return prices.attacking(trial, scope.world)


def steps_of(name: str, parameters: int) -> int:
    """The steps of a piece of work on a model of some size."""
    times = SMALL if parameters < 5_000_000 else 1 / LARGE if parameters > 100_000_000 else 1
    return min(1, STEPS[name]) * max(1, round(STEPS[name] * times))


def done(model: str, name: str) -> dict[str, float]:
    """Do it, here and now."""
    import titer
    from titer.core import catalogue
    from titer.trial.pace import peak_memory

    scope = titer.world("fabula")["A"]
    lm = titer.load(model)
    steps = steps_of(name, lm.parameters())
    started = time.process_time()
    if name in catalogue.names("defence"):
        titer.immunise(lm, name, scope, steps=steps)
    else:
        found = titer.attack(lm, name, scope, steps=steps or None)
        assert found.trace.status in ("ok", "diverged"), found.trace.error
    return {"seconds": time.process_time() - started, "memory": peak_memory()}


def in_a_process(*words: str) -> dict[str, Any]:
    """What this file prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.estimates", *words]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def foretold(model: str, names: list[str]) -> dict[str, Any]:
    """The estimates for one model, and what they took to make."""
    import titer
    from titer.api.estimate import pricing

    started = time.process_time()
    world = titer.world("fabula")
    prices = pricing(model, world.hazards["A"].attack, 1, world)
    found: dict[str, Any] = {}
    for name in names:
        needed = planned(model, name, prices)
        assert needed.seconds is not None, (name, needed)
        assert needed.memory is not None, (name, needed)
        found[name] = {"seconds": needed.seconds, "memory": float(needed.memory)}
    return {"took": time.process_time() - started, "found": found}


def quotients(model: str, label: str, names: list[str]) -> list[Figure]:
    """Estimate over truth, for each piece of work."""
    told = in_a_process("--foretell", model, "--work", *names)
    figures = [_figure(f"{label}: the estimates themselves", "s", told["took"], "")]
    for name in names:
        true = in_a_process("--do", model, name)
        for what, unit, goal in (("seconds", "s", "1.5"), ("memory", "MiB", "1.2")):
            scale = 2**20 if what == "memory" else 1
            is_, said = true[what] / scale, told["found"][name][what] / scale
            figures += [
                _figure(f"{label}: {name}, {what}", unit, is_, "measured"),
                _figure(f"{label}: {name}, {what} foretold", "ratio", said / is_, f"goal {goal}"),
            ]
            print(f"{label}: {name}, {what}: {is_:.0f} {unit}, {said / is_:.2f}", file=sys.stderr)
    return figures


def _figure(what: str, unit: str, value: float, against: str) -> Figure:
    return Figure(what=what, unit=unit, median=value, low=value, high=value, against=against)


def whole_suite() -> list[Figure]:
    """The whole of quick on the testbed, one worker: what was planned, and what rates added."""
    from titer.api import rehearse
    from titer.core.study import Study

    with tempfile.TemporaryDirectory() as folder:
        study = Study(models=("fabula:base",), cap=30, seeds=1, out=Path(folder) / "run")
        told = rehearse.bench(study, 1)
        words = ["-m", "titer.cli", "bench", "fabula:base", "--cap", "30", "--seeds", "1"]
        words += ["--workers", "1", "--quiet", "--out", str(study.out)]
        before = children()
        subprocess.run(gathered([sys.executable, *words]), check=True, stdout=subprocess.DEVNULL)
        took = children() - before
        count = len(json.loads((study.out / "plan.json").read_text()))
    assert told.seconds is not None
    return [
        _figure("quick on the testbed, 30 steps: trials foretold", "ratio", told.trials / count,
                f"{count} run, with further rates"),
        _figure("quick on the testbed, 30 steps: seconds", "s", took, "measured"),
        _figure("quick on the testbed, 30 steps: seconds foretold", "ratio",
                told.seconds / took, "goal 1.5"),
    ]  # fmt: skip


def main() -> None:
    """Print the quotients."""
    single_thread()
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--model", action="append", default=[], help="a folder; repeatable")
    parser.add_argument("--work", nargs="+", default=list(WORK), help=f"of {', '.join(WORK)}")
    parser.add_argument("--only", action="store_true", help="no other models than --model")
    parser.add_argument("--forty", action="store_true", help="the 40 million beside --only")
    parser.add_argument("--suite", action="store_true", help="the whole of quick too")
    parser.add_argument("--do", nargs=2, help=argparse_hidden())
    parser.add_argument("--foretell", help=argparse_hidden())
    given = parser.parse_args()
    if given.do:
        print(json.dumps(done(*given.do)))
        return
    if given.foretell:
        print(json.dumps(foretold(given.foretell, given.work)))
        return
    figures: list[Figure] = []
    with watched(), tempfile.TemporaryDirectory() as folder:
        if not given.only:
            figures += quotients("fabula:base", "0.7 M", given.work)
        if not given.only or given.forty:
            figures += quotients(forty_million(Path(folder)), "40 M", given.work)
        for model in given.model:
            figures += quotients(model, os.path.basename(model.rstrip("/")), given.work)
        if given.suite:
            figures += whole_suite()
    show(figures, as_json=given.json)


def argparse_hidden() -> str:
    """The help of options that a process of this file gives another."""
    import argparse

    return argparse.SUPPRESS


if __name__ == "__main__":
    main()
