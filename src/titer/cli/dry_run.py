"""What a command would do, and roughly at what cost, said without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from titer.cli.output import say_or_print
from titer.core.study import Study

if TYPE_CHECKING:
    from titer.api.fit import Fit
    from titer.api.rehearse import Estimate
    from titer.core.records import Trial
    from titer.trial.immunise import Immunisation

__all__ = [
    "fit_lines",
    "measured",
    "not_grown",
    "rehearse",
    "rehearse_again",
    "rehearse_one",
    "study_lines",
]


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


def rehearse(asked: Study, workers: int, timeout: float, *, as_json: bool) -> None:
    """Check a study and say what it would take.

    Raises:
        BadInput: everything that is wrong with it.
    """
    from titer.api import rehearse as would

    if not_grown(would.ungrown(asked), as_json=as_json):
        return
    found = would.bench(asked, workers, timeout)
    say_or_print(as_json, asdict(found), "\n".join(study_lines(found, timeout)))


def study_lines(found: Estimate, timeout: float) -> list[str]:
    """An estimate in words."""
    lines = [
        f"{_many(len(found.models), 'model')}, {found.immunisations} of them to immunise; "
        f"{_many(found.trials, 'trial')}, {found.steps:,} steps: "
        f"{_taken(found.seconds)} on {_many(found.workers, 'worker')} of an idle machine, "
        f"{_held(found.memory_bytes_per_worker)} each.{_further(found.further_rates)}",
        "dearest rows: "
        + ", ".join(f"{row.row} {_short(row.seconds)}" for row in found.rows[:_DEAREST]),
    ]
    if found.unpriced:
        lines.append(f"{_many(found.unpriced, 'part')} could not be tried and cost more than that.")
    if found.outlast:
        lines.append(
            f"watch: a trial of {', '.join(found.outlast)} takes longer than --timeout "
            f"{timeout:g} allows and would be stopped without a result; give a longer --timeout, "
            "or --cap for fewer steps (another suite hash)."
        )
    if found.memory_bytes_per_worker is not None:
        lines += _crowded(found.memory_bytes_per_worker, found.workers)
    return [*lines, "Nothing was run."]


def measured(
    model: str, data: str, domain: str | None, suites: tuple[str, ...], workers: int | None
) -> Fit:
    """What fits here of a model.

    Raises:
        BadInput: the model, the data or a suite cannot be used.
    """
    from titer.api.fit import fit
    from titer.executors.processes import workers_of

    return fit(model, data, domain, suites, workers_of(workers))


_PASSES = {
    "full": "training every weight",
    "light": "training an adapter",
    "read": "reading",
    "spoken": "speaking",
}


def fit_lines(found: Fit) -> list[str]:
    """What fits here, in words."""
    free = "" if found.free is None else f", {_held(found.free)} free here"
    lines = [
        f"{found.model}: {found.parameters:,} weights, {_held(found.weights)}{free}; "
        f"rows of about {found.row_tokens} tokens"
    ]
    for kind, says in _PASSES.items():
        rate = found.tokens_per_second[kind]  # type: ignore[index]
        told = "does not fit in memory" if rate is None else f"{rate:,.0f} tokens a second"
        lines.append(f"{says}: {told} (one worker)")
    one = found.immunise
    lines.append(f"immunise npo by its defaults: {_taken(one.seconds)}, {_held(one.memory)}")
    for name, suite in found.suites.items():
        rows = ", ".join(f"{row.row} {_short(row.seconds)}" for row in suite.rows[:_DEAREST])
        lines.append(
            f"{name} on this model alone, {_many(suite.trials, 'trial')}: {_taken(suite.seconds)} "
            f"on {_many(suite.workers, 'worker')}, {_held(suite.memory_bytes_per_worker)} each; "
            f"dearest: {rows}"
        )
        if suite.outlast:
            lines.append(f"watch: {', '.join(suite.outlast)} outlast the default --timeout")
    lines.append("A study attacks the undefended model beside each model under test.")
    return lines


def rehearse_one(asked: Study, work: Immunisation | Trial, steps: int, *, as_json: bool) -> None:
    """Say what one immunisation or one attack would take.

    Raises:
        BadInput: the model cannot be loaded.
    """
    from titer.api import rehearse as would

    found = would.needed(asked, work)
    content = {"would": asdict(work), "needed": asdict(found)}
    lines = [f"would spend {steps:,} steps: {_taken(found.seconds)}, {_held(found.memory)}."]
    lines += _crowded(found.memory, 1) if found.memory is not None else []
    if found.guessed:
        lines.append("Part of it could not be tried beforehand and is in neither figure.")
    say_or_print(as_json, content, "\n".join([*lines, "Nothing was run."]))


def _crowded(memory: int, workers: int) -> list[str]:
    """A warning where that is more memory than there is."""
    from titer.api.estimate import free_memory

    free = free_memory()
    if free is None or memory * workers <= free:
        return []
    fewer = free // memory
    advice = (
        f"give --workers {fewer}" if fewer else "give a smaller batch, or --set parameters=lora"
    )
    return [f"watch: that is more than the {_held(free)} that are free here; {advice}."]


_DEAREST = 5


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _taken(seconds: float | None) -> str:
    return "more memory than there is here" if seconds is None else f"about {_short(seconds)}"


def _short(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return (
                f"{seconds / size:.1f} {unit}"
                if seconds < 10 * size
                else (f"{seconds / size:.0f} {unit}")
            )
    return f"{seconds:.0f} s"


def _held(memory: int | None) -> str:
    return "memory that cannot be told" if memory is None else f"{memory / 2**20:,.0f} MiB"


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
