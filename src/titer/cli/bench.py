"""``titer bench`` and ``titer demo``: a study by its options, or from a file."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from titer.cli.guard import Later, Writes
from titer.cli.options import Running, Telling, grouped, loading, settings_of, use_device
from titer.cli.output import print_verdict, say
from titer.core.errors import BadInput
from titer.core.study import Study

__all__ = ["DEMO", "REAL", "register"]

DEMO = Study(
    models=("fabula:base",),
    defences=("npo", "rmu"),
    tasks=("new_facts", "new_charms"),
    cap=30,
    seeds=1,
    out=Path("runs/demo"),
)
"""What the demo asks."""

REAL = Study(
    defences=("npo", "rmu", "ilu"),
    suite="real",
    data="almanac",
    tasks=("lanterns",),
    seeds=1,
    out=Path("runs/real"),
)
"""What it asks of a real model, which is fetched to lie beside the run."""


def demo(
    running: Running,
    told: Telling,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; runs/demo or runs/real."), Writes()
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds, from 0 up.")] = DEMO.seeds,
    real: Annotated[
        bool, typer.Option("--real", help="On SmolLM2 and public knowledge, not on the testbed.")
    ] = False,
) -> None:
    """On the testbed, or on a small real model: immunise, attack, and write the report."""
    use_device(running.device)
    asked = REAL if real else DEMO
    asked = replace(asked, out=out or asked.out, seeds=seeds)
    _run(_with_model(asked, told) if real else asked, running, told)


def _with_model(asked: Study, told: Telling) -> Study:
    """The study of SmolLM2, which lies beside the run's folder, so that a run can be moved."""
    from titer.worlds.wheels import unpack

    place = asked.out.with_name(f"{asked.out.name}-smollm2")
    if told.dry_run and not place.exists():
        raise BadInput(f"the model is not there yet; `titer fetch smollm2 --out {place}` first.")
    if not told.quiet and not place.exists():
        say(f"SmolLM2 is written to {place} (540 MB).", err=True)
    unpack("smollm2", place)
    return replace(asked, models=(str(place),))


def bench(context: typer.Context, running: Running, told: Telling, **asked: Any) -> None:
    """Run a suite on models, or a study from a file; the same command again resumes."""
    use_device(running.device)
    _run(_study(context, asked, quiet=told.quiet), running, told)


def _asks() -> list[inspect.Parameter]:
    """An option for each field of a study, which is the one list of them."""
    hints = get_type_hints(Study)
    asks: list[inspect.Parameter] = []
    for spec in fields(Study):
        says = spec.metadata["says"]
        several = get_origin(hints[spec.name]) in (tuple, Mapping)
        kind: Any = hints[spec.name]
        if several:
            kind = list[float] if spec.name == "shares" else list[str]
        if spec.name == "models":
            told, default = typer.Argument(help=f"{says} Or a study.yaml."), inspect.Parameter.empty
        else:
            told = typer.Option(Study.option(spec.name), help=says)
            kind, default = (kind | None, None) if several else (kind, spec.default)
        asks.append(
            inspect.Parameter(
                spec.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[kind, told, Later()],
                default=default,
            )
        )
    return asks


def _study(context: typer.Context, asked: dict[str, Any], *, quiet: bool) -> Study:
    """What the words ask; what is said beside a file overrides the file, which is said too."""
    given = {name: value for name, value in asked.items() if _is_said(context, name)}
    if "settings" in given:
        given["settings"] = settings_of(given["settings"])
    first, *others = given.pop("models")
    if Path(first).suffix not in (".yaml", ".yml"):
        return Study(models=(first, *others), **given)
    study = Study.from_yaml(first)
    changes = given | ({"models": tuple(others)} if others else {})
    changed = replace(study, **changes)
    for name in changes:
        before, after = getattr(study, name), getattr(changed, name)
        if before != after and not quiet:
            say(f"{first}: {name} is {_said(before)}; {_said(after)} is taken.", err=True)
    return changed


def _is_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _run(study: Study, running: Running, told: Telling) -> None:
    """Make a study and print its verdict, or what it would take."""
    import titer
    from titer.cli.dry_run import rehearse
    from titer.cli.progress import each_checkpoint, each_trial, shown
    from titer.executors.processes import workers_of
    from titer.run.store import Store

    if told.dry_run:
        rehearse(study, workers_of(running.workers), running.timeout, as_json=told.as_json)
        return
    started = time.monotonic()
    with shown(quiet=told.quiet) as tell:
        verdict = titer.bench(
            study,
            executor=running.executor,
            workers=running.workers,
            timeout=running.timeout,
            progress=tell,
            ended=each_trial if told.verbose else None,
            passed=each_checkpoint if told.verbose else None,
            show_answers=running.show_answers,
        )
    print_verdict(verdict, study.out, as_json=told.as_json)
    if not told.as_json:
        trials = len(Store(study.out).plan())
        typer.echo(f"{trials} trials, {time.monotonic() - started:.0f} s")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(loading(grouped(demo)))
    app.command()(loading(grouped(bench, _asks())))
