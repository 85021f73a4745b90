"""What a command would do, and roughly at what cost, said without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from titer.cli.output import say_or_print
from titer.core.study import Study

__all__ = ["not_grown", "rehearse", "rehearse_again"]


def not_grown(missing: Sequence[str], *, as_json: bool) -> bool:
    """Say which organisms would have to be grown before anything can be estimated."""
    if missing:
        say_or_print(
            as_json,
            {"would_grow": list(missing)},
            f"would grow {', '.join(missing)} first (minutes at nano size), then run the study. "
            "Nothing was run.",
        )
    return bool(missing)


def rehearse(asked: Study, workers: int, *, as_json: bool) -> None:
    """Check a study and say what it would take.

    Raises:
        BadInput: everything that is wrong with it.
    """
    from titer.api import rehearse as would

    if not_grown(would.ungrown(asked), as_json=as_json):
        return
    found = would.bench(asked, workers)
    say_or_print(
        as_json,
        asdict(found),
        f"{len(found.models)} models, {found.immunisations} of them to immunise; "
        f"{found.trials} trials, {found.steps:,} steps: very roughly {found.seconds / 60:.0f} "
        f"minutes on {workers} workers, and {found.memory_bytes_per_worker / 2**20:,.0f} MiB each "
        f"beside the program.{_further(found.further_rates)} Nothing was run.",
    )


def rehearse_again(
    root: Path, keys: Sequence[str], models: Sequence[str] = (), *, as_json: bool
) -> None:
    """Say what would be run to run trials again, and to make models again, once everything for it
    is seen to be there.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    from titer.api import rehearse as would

    trials = would.again(root, keys)
    steps = sum(trial.budget.steps or 0 for trial in trials)
    made = f" It would make {', '.join(models)} again." if models else ""
    content = {"drawn": list(keys), "trials": [trial.key for trial in trials], "steps": steps}
    say_or_print(
        as_json,
        {**content, "models": list(models)},
        f"would run {len(trials)} trials again, {len(keys)} that were drawn and those that trained "
        f"beside them: {steps:,} steps.{made} Nothing was run.",
    )


def _further(rates: int) -> str:
    if not rates:
        return ""
    return f" Rows that do not break a model try up to {rates} more rates, which is not in it."
