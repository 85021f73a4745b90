"""What a command would do, and roughly at what cost, without doing it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from titer.cli.output import say_or_print
from titer.core import modelfolder
from titer.core.records import Trace
from titer.core.study import Study
from titer.plan import experiment as plan
from titer.plan.experiment import Experiment
from titer.plan.fresh_seeds import finals
from titer.plan.request import assemble, check, dealt
from titer.run.defended import share_of
from titer.run.runner import unique
from titer.trial.immunise import Immunisation
from titer.worlds import organisms
from titer.worlds.estimate import Work, estimate

__all__ = ["not_grown", "rehearse", "rehearse_again"]

_STEP_SECONDS = 0.006
"""What a training step costs however small the model: launching its operations."""


def not_grown(sources: Sequence[str], *, as_json: bool) -> bool:
    """Say which organisms a study would have to grow before anything can be estimated."""
    missing = [source for source in sources if organisms.cached(*organisms.parse(source)) is None]
    if missing:
        say_or_print(
            as_json,
            {"would_grow": missing},
            f"would grow {', '.join(missing)} first (minutes at nano size), then run the study. "
            "Nothing was run.",
        )
    return bool(missing)


def rehearse(asked: Study, workers: int, *, as_json: bool) -> None:
    """Check a study and say what it would take.

    Raises:
        BadInput: everything that is wrong with it.
    """
    checked = check(dealt(asked))
    if not not_grown(checked.organisms(), as_json=as_json):
        _print_estimate(*assemble(checked), workers, as_json=as_json)


def rehearse_again(
    root: Path, keys: Sequence[str], models: Sequence[str] = (), *, as_json: bool
) -> None:
    """Say what would be run to run trials again, and to make models again, once everything for it
    is seen to be there.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    from titer.verify.rerun import plan as again

    trials = [trial for job in again(root, keys, root) for trial in job.trials]
    steps = sum(trial.budget.steps or 0 for trial in trials)
    made = f" It would make {', '.join(models)} again." if models else ""
    content = {"drawn": list(keys), "trials": [trial.key for trial in trials], "steps": steps}
    say_or_print(
        as_json,
        {**content, "models": list(models)},
        f"would run {len(trials)} trials again, {len(keys)} that were drawn and those that trained "
        f"beside them: {steps:,} steps.{made} Nothing was run.",
    )


def _print_estimate(
    study: Experiment, plans: Sequence[Immunisation], workers: int, *, as_json: bool
) -> None:
    """What a study would take, from shapes and one short matrix product."""
    rates = {"full-adamw": 1.0}
    base = study.undefended()
    planned = [
        replace(
            base,
            name=made.key,
            digest=made.key,
            role="defended",
            share=share_of(made, study, made.name),
        )
        for made in plans
    ]
    study = replace(study, subjects=(*study.subjects, *planned))
    attacks = plan.attacks(study, rates)
    # Which settings will be the best of a search is not known, only how many are run again.
    attacks += finals(study, [Trace(trial=trial, status="failed") for trial in attacks])
    trials = unique([*plan.calibration(study), *attacks, *plan.training(study, rates)])
    steps = sum(trial.budget.steps or 0 for trial in trials) + sum(p.steps for p in plans)
    looks = sum(len(trial.checkpoints) for trial in trials)
    folder = Path(base.folder)
    items = 4 * len(study.world.hazards[study.domain].report)
    needed = estimate(
        modelfolder.tensor_shapes(folder),
        json.loads((folder / "config.json").read_text(encoding="utf-8")),
        Work(steps=steps, batch_size=16, tokens_per_row=32, judged_rows=looks * items, copies=1),
        gflops=_gflops(),
    )
    seconds = max(needed.seconds or 0.0, steps * _STEP_SECONDS) / workers
    found = {
        "models": [asdict(subject) for subject in study.subjects],
        "immunisations": len(plans),
        "trials": len(trials),
        "further_rates": study.suite.rungs - 1,
        "steps": steps,
        "seconds": round(seconds),
        "memory_bytes_per_worker": needed.memory,
        "workers": workers,
    }
    say_or_print(
        as_json,
        found,
        f"{len(study.subjects)} models, {len(plans)} of them to immunise; {len(trials)} trials, "
        f"{steps:,} steps: very roughly {seconds / 60:.0f} minutes on {workers} workers, and "
        f"{needed.memory / 2**20:,.0f} MiB each beside the program.{_further(study)} "
        "Nothing was run.",
    )


def _further(study: Experiment) -> str:
    rungs = study.suite.rungs
    if rungs == 1:
        return ""
    return f" Rows that do not break a model try up to {rungs - 1} more rates, which is not in it."


def _gflops() -> float:
    """This core's speed at a product of two matrices, in 10⁹ operations a second."""
    import torch

    torch.set_num_threads(1)
    size = 512
    matrix = torch.ones(size, size)
    torch.mm(matrix, matrix)
    started = time.perf_counter()
    for _ in range(5):
        torch.mm(matrix, matrix)
    return 5 * 2 * size**3 / (time.perf_counter() - started) / 1e9
